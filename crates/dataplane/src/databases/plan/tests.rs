use std::sync::Arc;
use std::time::Duration;

use super::cache::PLANS_MAX;
use super::entry::KEPT_MAX;
use super::queue::{TEXT_MAX, WANTED_BYTES_MAX, WANTED_MAX};
use super::*;
use crate::databases::lexer;

const READ: &str = r#"{"access": "read", "effects": [{"kind": "show", "name": "x"}, {"kind": "copy", "name": "s"}],
    "pins": [], "unpins": [], "statements": 1, "reason": "reads only", "tables": [], "hint": null,
    "doubtful": false}"#;

fn place() -> Place {
    Place { group: "main".to_owned(), database: "app".to_owned() }
}

fn asked(queue: &Queue) -> Vec<(u64, String)> {
    queue.wanted_within(Duration::ZERO).into_iter().map(|question| (question.id, question.text)).collect()
}

fn plans() -> (Plans, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    (Plans::new(place(), Arc::clone(&queue)), queue)
}

#[test]
fn a_statement_is_planned_once() {
    let (plans, queue) = plans();
    let entry = plans.entry(b"select ?", b"select 1");
    assert!(Arc::ptr_eq(&entry, &plans.entry(b"select ?", b"select 2")));
    assert_eq!(asked(&queue), [(0, "select 1".to_owned())]);
    assert!(asked(&queue).is_empty());
    queue.planned(0, READ).unwrap();
    let plan = entry.plan().unwrap();
    assert_eq!(plan.access, Access::Read);
    assert_eq!(plan.effects, [Effect::Show { name: "x".into() }, Effect::Other]);
}

#[test]
fn the_planner_is_woken_at_the_end() {
    let queue = Arc::new(Queue::default());
    let planner = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || queue.wanted_within(Duration::MAX)
    });
    queue.end();
    assert!(planner.join().unwrap().is_empty());
    assert!(queue.wanted_within(Duration::MAX).is_empty());
}

#[test]
fn what_cannot_be_understood_goes_to_the_primary() {
    let (plans, queue) = plans();
    let entry = plans.entry(b"x", b"x");
    queue.wanted_within(Duration::ZERO);
    assert!(queue.planned(0, "{}").is_err());
    assert_eq!(entry.plan().unwrap().access, Access::Write);
    assert!(Arc::ptr_eq(&entry, &plans.entry(b"x", b"x")));
    assert!(!Arc::ptr_eq(&entry, &plans.entry(b"x", b"y")), "it holds for its own text only");
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let (plans, queue) = plans();
    let kept = plans.entry(b"kept", b"kept");
    for number in 0..3 * PLANS_MAX {
        plans.entry(number.to_string().as_bytes(), b"other");
        if number % 1000 == 0 {
            plans.entry(b"kept", b"kept");
        }
    }
    assert!(plans.all().len() <= PLANS_MAX);
    assert!(Arc::ptr_eq(&kept, &plans.entry(b"kept", b"kept")));
    assert!(queue.waiting().0 <= WANTED_MAX);
}

#[test]
fn long_texts_are_planned_whole_and_not_kept() {
    let (plans, queue) = plans();
    let long = format!("select '{}'", "ä".repeat(100_000));
    let entry = plans.entry(&lexer::whole(long.as_bytes()), long.as_bytes());
    assert!(entry.text.len() <= KEPT_MAX && long.starts_with(&*entry.text));
    assert_eq!(asked(&queue), [(0, long.clone())]);
    assert!(Arc::ptr_eq(&entry, &plans.entry(&lexer::whole(long.as_bytes()), long.as_bytes())));
    for number in 0..20 {
        let text = format!("{number} {}", "x".repeat(TEXT_MAX / 2));
        plans.entry(&lexer::whole(text.as_bytes()), text.as_bytes());
    }
    assert!(queue.waiting().1 <= WANTED_BYTES_MAX);
}

#[test]
fn a_new_version_of_the_catalogue_has_statements_planned_again() {
    let (plans, queue) = plans();
    let plans = Arc::new(plans);
    let first = plans.entry(b"x", b"x");
    first.learn(Lesson::Unlogged);
    queue.planned(asked(&queue)[0].0, READ).unwrap();
    let version = plans.version();
    assert!(plans.holds(version));
    let definition = plans.begin_definition();
    assert!(!plans.holds(version) && Arc::ptr_eq(&first, &plans.renewed(&first, b"x")));
    drop(definition);
    assert!(!plans.holds(version) && plans.holds(plans.version()));
    let second = plans.renewed(&first, b"x");
    assert!(!Arc::ptr_eq(&first, &second) && second.was_learnt());
    let [question] = &queue.wanted_within(Duration::ZERO)[..] else { panic!("one statement is planned again") };
    assert_eq!((question.version, &*question.text), (version + 1, "x"));
    assert!(Arc::ptr_eq(&second, &plans.entry(b"x", b"x")));
    plans.begin_definition().nothing_changed();
    assert!(plans.holds(version + 1));
}

#[test]
fn what_the_planner_had_no_room_for_is_asked_again() {
    let (plans, queue) = plans();
    for number in 0..WANTED_MAX {
        plans.entry(number.to_string().as_bytes(), b"other");
    }
    plans.entry(b"late", b"late");
    assert_eq!(asked(&queue).len(), WANTED_MAX);
    assert!(asked(&queue).is_empty());
    plans.entry(b"late", b"late");
    assert_eq!(asked(&queue).len(), 1);
}
