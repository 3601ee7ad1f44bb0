use std::future::Future;

use tokio::task::{JoinHandle, spawn};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn at(position: u64, timeline: u32) -> Answer {
    Answer { in_recovery: true, position, received: position, timeline, lag_ms: Some(0) }
}

/// A node that answers each question with the next of `answers`; the time is the number of the question.
fn node(vitals: &Arc<Vitals>, answers: Vec<Result<Answer, String>>) -> JoinHandle<()> {
    let vitals = Arc::clone(vitals);
    spawn(async move {
        for (number, answer) in (1..).zip(answers) {
            vitals.asked(LONG).await;
            match answer {
                Ok(answer) => vitals.publish(number, answer),
                Err(problem) => vitals.publish_failure(problem),
            }
        }
    })
}

#[test]
fn a_failure_keeps_the_last_answer_and_says_why() {
    let vitals = Vitals::default();
    assert!(!vitals.sample().is_reachable());
    vitals.publish(7, at(100, 1));
    assert!(vitals.sample().is_reachable());
    vitals.publish_failure("no answer in time".into());
    vitals.publish_failure("cannot be reached".into());
    let expected = Sample { answer: Some(at(100, 1)), begun_us: 7, failures: 2, problem: "cannot be reached".into() };
    assert_eq!(**vitals.sample(), expected);
    assert!(!vitals.sample().is_reachable());
    vitals.publish(9, at(120, 1));
    assert_eq!((vitals.sample().failures, vitals.sample().problem.as_str()), (0, ""));
}

#[test]
fn an_answer_that_was_asked_for_too_early_is_not_taken() {
    run(async {
        let vitals = Arc::new(Vitals::default());
        let node = node(&vitals, vec![Ok(at(100, 1)), Ok(at(110, 1)), Ok(at(120, 1))]);
        assert_eq!(vitals.begun_after(2).await, Some(at(120, 1)));
        // That one will do for others too.
        assert_eq!(vitals.begun_after(2).await, Some(at(120, 1)));
        node.await.unwrap();
    });
}

#[test]
fn many_share_one_question() {
    run(async {
        let vitals = Arc::new(Vitals::default());
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let vitals = Arc::clone(&vitals);
                spawn(async move { vitals.begun_after(0).await })
            })
            .collect();
        let node = node(&vitals, vec![Ok(at(100, 1))]);
        for each in waiting {
            assert_eq!(each.await.unwrap(), Some(at(100, 1)));
        }
        node.await.unwrap();
        assert_eq!(*vitals.subscribe().borrow(), 1);
    });
}

#[test]
fn nobody_waits_for_a_node_that_does_not_answer() {
    run(async {
        let vitals = Arc::new(Vitals::default());
        let failing = node(&vitals, vec![Err("gone".into())]);
        assert_eq!(vitals.begun_after(0).await, None);
        failing.await.unwrap();
        assert!(!vitals.reached(0, 1).await);
    });
}

#[test]
fn a_position_is_waited_for() {
    run(async {
        let vitals = Arc::new(Vitals::default());
        let node = node(&vitals, vec![Ok(at(100, 1)), Ok(at(199, 1)), Ok(at(200, 1))]);
        assert!(vitals.reached(200, 1).await);
        node.await.unwrap();
    });
}

#[test]
fn only_the_same_or_a_later_timeline_counts() {
    for (answer, expected) in [(at(200, 1), true), (at(200, 2), true), (at(900, 0), false), (at(199, 9), false)] {
        assert_eq!(answer.has_reached(200, 1), expected);
    }
}
