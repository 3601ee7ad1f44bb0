//! What the server's next messages answer to. It decides which of them the client gets, and puts in answers of our own
//! where they belong: a pooled connection is asked things that its client never asked, and the client asks things that the
//! connection knows already.

use std::collections::VecDeque;

use super::refusal::Refusal;

/// One answer to come.
#[derive(Debug, PartialEq, Eq)]
pub enum Expect {
    /// Queries of our own before the unit: nothing of their answer is passed on.
    Own,
    /// One of them whose answer is wanted: `Expectations::told`.
    Ask,
    /// A batch of our own behind the unit, up to its Sync; its rows are kept (`Expectations::rows`).
    Audit,
    /// A question of ours within a batch: its Bind and its Execute.
    AskBind,
    AskExecute,
    Parse {
        own: bool,
        /// The statement that is prepared on this connection when it succeeds.
        id: Option<u64>,
    },
    Bind,
    Describe,
    Execute,
    Close {
        own: bool,
    },
    Sync,
    Query,
    Call,
    /// An answer of ours, given when its turn comes.
    Ready(Vec<u8>),
    /// The server is made to fail here, so that it undoes what it must; the client is told this instead.
    Failing(Vec<u8>),
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
    /// This in its place.
    Replace(Vec<u8>),
}

#[derive(Debug, Default)]
pub struct Expectations {
    queue: VecDeque<Expect>,
    /// After an error the server ignores everything up to the next Sync, which has not been sent yet.
    pub skipping: bool,
    /// Answers of ours whose turn has come.
    pub ready: Vec<u8>,
    /// Transaction status of the last `ReadyForQuery`.
    pub status: Option<u8>,
    /// An error of the unit itself was seen.
    pub failed: bool,
    /// A prepared statement was refused because its result has other columns by now.
    pub outdated: bool,
    /// What the error says about the statement, where the client has got it.
    pub refusal: Option<Refusal>,
    /// Our own queries before the unit have failed.
    pub own_failed: bool,
    /// The SQLSTATE and the message of the server then.
    pub own_error: Option<(String, String)>,
    /// The one value that a question of ours was answered with.
    pub told: Option<String>,
    /// Rows of the answer to an audit.
    pub rows: Vec<Vec<Option<String>>>,
    /// The error that a question of ours has met; the transaction it was asked in is lost with it.
    pub unasked: Option<Vec<u8>>,
    /// A COPY failed with a Sync behind it, which the server may not have come to: it may answer once more than it is asked.
    pub is_uncertain: bool,
    /// The server has ended its session, because it was idle for too long (57P05).
    pub timed_out: bool,
    /// The server waits for COPY data.
    pub copying: bool,
    /// A Sync was sent while it did, which it ignores.
    pub synced_in_copy: bool,
    /// How many Syncs the client has sent behind COPY data, which the server was not sent.
    pub held_syncs: u32,
    /// It was sent when the COPY had failed: the batch ends with its answer.
    pub is_synced: bool,
    /// Statements whose Parse was sent.
    pub hoped: Vec<u64>,
    /// Statements that are prepared on the connection now.
    pub prepared: Vec<u64>,
    /// How many of the client's Execute messages have succeeded.
    pub executed: usize,
    /// How many of the client's messages have been answered, up to the first error.
    pub answered: usize,
    /// How many statements of a simple query have succeeded.
    pub commands: usize,
    /// Close messages of ours that were not answered: what they were to close is still prepared, if it is over.
    pub closing: usize,
}

impl Expectations {
    /// Makes room for so many answers.
    pub fn reserve(&mut self, count: usize) {
        self.queue.reserve(count);
    }

    pub fn push(&mut self, expect: Expect) {
        self.closing += usize::from(expect == Expect::Close { own: true });
        match expect {
            Expect::Ready(bytes) if self.queue.is_empty() => self.give(&bytes),
            expect => self.queue.push_back(expect),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the answer to come is to a simple query, which ends without being asked for.
    pub fn is_query(&self) -> bool {
        self.queue.front() == Some(&Expect::Query)
    }

    /// Whether the answer to come is to queries of our own.
    pub fn is_own(&self) -> bool {
        matches!(self.queue.front(), Some(Expect::Own | Expect::Ask | Expect::Audit))
    }

    /// Whether the next rows answer an audit.
    pub fn is_audit(&self) -> bool {
        self.queue.front() == Some(&Expect::Audit)
    }

    /// Whether the value of the next row is the answer to a question of ours.
    pub fn is_asked(&self) -> bool {
        matches!(self.queue.front(), Some(Expect::Ask | Expect::AskExecute))
    }

    /// Whether everything is answered but the end of the batch.
    pub fn is_at_sync(&self) -> bool {
        self.queue.len() == 1 && self.queue.back() == Some(&Expect::Sync)
    }

    /// The server has sent a message of type `tag`; `status` is the byte of a `ReadyForQuery`. `None`: nothing of the kind
    /// can come now, and the connection cannot be understood any more.
    pub fn arrived(&mut self, tag: u8, status: u8) -> Option<Verdict> {
        let own = self.is_own();
        match tag {
            b'N' | b'S' if own => return Some(Verdict::Drop),
            b'N' | b'S' | b'A' => return Some(Verdict::Pass),
            b'E' if own => {
                self.own_failed = true;
                return Some(Verdict::Drop);
            }
            b'E' => return Some(self.error()),
            b'Z' => return self.synced(status, own),
            _ if own => return Some(Verdict::Drop),
            b'G' => {
                self.copying = true;
                if self.queue.get(1) == Some(&Expect::Sync) {
                    // A server in COPY ignores it, and waits for another one.
                    self.queue.remove(1);
                    self.synced_in_copy = true;
                }
            }
            _ => {}
        }
        if tag == b'C'
            && let Some(Expect::Query | Expect::Execute) = self.queue.front()
            && let Some(error) = self.unasked.take()
        {
            // What was to be committed has been rolled back.
            let pending = self.queue.front() == Some(&Expect::Execute);
            let end = self.queue.iter().position(|expect| *expect == Expect::Sync);
            self.queue.drain(..if pending { end.unwrap_or(0) } else { 0 });
            self.failed = true;
            return Some(Verdict::Replace(error));
        }
        let (done, pass) = match (self.queue.front()?, tag) {
            (Expect::Query, b'C' | b'I') => {
                self.commands += 1;
                (false, true)
            }
            (Expect::Query | Expect::Call, _) => (false, true),
            (Expect::AskBind, b'2') | (Expect::AskExecute, b'C') => (true, false),
            (Expect::AskExecute, b'D') => (false, false),
            (Expect::Parse { own, id }, b'1') => {
                self.prepared.extend(id);
                (true, !own)
            }
            (Expect::Bind, b'2') => (true, true),
            (Expect::Describe, b't') => (false, true),
            (Expect::Describe, b'T' | b'n') => (true, true),
            (Expect::Execute, b'C' | b'I' | b's') => {
                self.executed += 1;
                (true, true)
            }
            (Expect::Execute, b'D' | b'd' | b'c' | b'G' | b'H' | b'T') => (false, true),
            (Expect::Close { own }, b'3') => {
                self.closing -= usize::from(*own);
                (true, !own)
            }
            _ => return None,
        };
        if done {
            self.answered += usize::from(pass);
            self.next();
        }
        Some(if pass { Verdict::Pass } else { Verdict::Drop })
    }

    /// A Sync is sent behind the error that the batch has ended with.
    pub fn sync_behind_error(&mut self) {
        (self.skipping, self.is_synced) = (false, true);
        self.push(Expect::Sync);
    }

    fn error(&mut self) -> Verdict {
        self.failed = true;
        let copied = std::mem::take(&mut self.copying);
        let replaced = match self.queue.front_mut() {
            Some(Expect::Query | Expect::Call) => return Verdict::Pass,
            Some(Expect::Failing(instead)) => Some(std::mem::take(instead)),
            _ => None,
        };
        // Up to the Sync nothing is answered any more; answers of ours are not due either.
        // A server that was in COPY may have failed before it came to a Sync that it would have ignored.
        self.is_uncertain |= copied && self.synced_in_copy;
        let end = self.queue.iter().position(|expect| matches!(expect, Expect::Sync));
        self.queue.drain(..end.unwrap_or(self.queue.len()));
        self.skipping = end.is_none();
        replaced.map_or(Verdict::Pass, Verdict::Replace)
    }

    fn synced(&mut self, status: u8, own: bool) -> Option<Verdict> {
        self.status = Some(status);
        match self.queue.front()? {
            Expect::Own | Expect::Ask | Expect::Audit | Expect::Sync | Expect::Query | Expect::Call => {
                self.copying = false;
                self.next();
                Some(if own { Verdict::Drop } else { Verdict::Pass })
            }
            _ => None,
        }
    }

    fn give(&mut self, answer: &[u8]) {
        self.answered += 1;
        self.ready.extend_from_slice(answer);
    }

    fn next(&mut self) {
        self.queue.pop_front();
        while let Some(Expect::Ready(_)) = self.queue.front() {
            let Some(Expect::Ready(bytes)) = self.queue.pop_front() else { return };
            self.give(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(expectations: &mut Expectations, tags: &str) -> String {
        tags.bytes()
            .map(|tag| match expectations.arrived(tag, b'I') {
                Some(Verdict::Pass) => char::from(tag),
                Some(Verdict::Drop) => '.',
                Some(Verdict::Replace(_)) => '!',
                None => '?',
            })
            .collect()
    }

    fn of(expects: impl IntoIterator<Item = Expect>) -> Expectations {
        let mut expectations = Expectations::default();
        expects.into_iter().for_each(|expect| expectations.push(expect));
        expectations
    }

    #[test]
    fn what_the_client_did_not_ask_is_kept_from_it() {
        let mut all = of([
            Expect::Own,
            Expect::Parse { own: true, id: Some(7) },
            Expect::Bind,
            Expect::Describe,
            Expect::Execute,
            Expect::Sync,
        ]);
        assert_eq!(feed(&mut all, "SCZ12TDDCZ"), "....2TDDCZ");
        assert!(all.is_empty() && !all.failed);
        assert_eq!(all.prepared, [7]);
    }

    #[test]
    fn what_we_ask_is_kept_from_the_client_before_and_within_a_batch() {
        let mut before = of([Expect::Ask, Expect::Query]);
        assert!(before.is_own() && before.is_asked());
        assert_eq!(feed(&mut before, "TDCZCZ"), "....CZ");
        let mut within = of([Expect::Bind, Expect::Execute, Expect::AskBind, Expect::AskExecute, Expect::Sync]);
        assert_eq!(feed(&mut within, "2C2"), "2C.");
        assert!(within.is_asked() && !within.is_at_sync());
        assert_eq!(feed(&mut within, "DC"), "..");
        assert!(within.is_at_sync());
        assert_eq!(feed(&mut within, "Z"), "Z");
    }

    #[test]
    fn a_commit_behind_a_question_that_failed_has_failed() {
        let mut simple = of([Expect::Ask, Expect::Query]);
        assert_eq!(feed(&mut simple, "E"), ".");
        simple.unasked = Some(b"why".to_vec());
        assert_eq!(feed(&mut simple, "ZCZ"), ".!Z");
        assert!(simple.failed && simple.is_empty());
        let mut extended = of([Expect::Ask, Expect::Bind, Expect::Execute, Expect::Sync]);
        extended.unasked = Some(b"why".to_vec());
        assert_eq!(feed(&mut extended, "EZ2CZ"), "..2!Z");
        assert!(extended.failed && extended.is_empty());
    }

    #[test]
    fn answers_of_ours_come_in_their_place() {
        let mut all = of([
            Expect::Ready(b"first".to_vec()),
            Expect::Bind,
            Expect::Ready(b"then".to_vec()),
            Expect::Ready(b"more".to_vec()),
            Expect::Sync,
        ]);
        assert_eq!(std::mem::take(&mut all.ready), b"first");
        assert_eq!(feed(&mut all, "2"), "2");
        assert_eq!(std::mem::take(&mut all.ready), b"thenmore");
        assert_eq!(feed(&mut all, "Z"), "Z");
    }

    #[test]
    fn after_an_error_only_the_sync_is_answered() {
        let mut all =
            of([Expect::Parse { own: false, id: None }, Expect::Ready(b"x".to_vec()), Expect::Execute, Expect::Sync]);
        assert_eq!(feed(&mut all, "E"), "E");
        assert!(all.failed && !all.skipping && all.ready.is_empty());
        assert_eq!(feed(&mut all, "Z"), "Z");
        let mut open = of([Expect::Bind, Expect::Execute]);
        assert_eq!(feed(&mut open, "E"), "E");
        assert!(open.is_empty() && open.skipping);
    }

    #[test]
    fn a_query_goes_on_after_an_error_until_it_is_ready() {
        let mut all = of([Expect::Query]);
        assert_eq!(feed(&mut all, "TDECZ"), "TDECZ");
        assert!(all.failed && all.is_empty());
    }

    #[test]
    fn an_error_we_caused_is_told_in_our_words() {
        let mut all = of([Expect::Bind, Expect::Failing(b"said".to_vec()), Expect::Execute, Expect::Sync]);
        assert_eq!(feed(&mut all, "2EZ"), "2!Z");
    }

    #[test]
    fn a_server_in_copy_has_ignored_only_a_sync_right_behind_the_execute() {
        let mut ignored = of([Expect::Execute, Expect::Sync]);
        assert_eq!(feed(&mut ignored, "GE"), "GE");
        assert!(ignored.skipping && ignored.is_empty());
        let mut pipelined =
            of([Expect::Execute, Expect::Parse { own: false, id: None }, Expect::Bind, Expect::Execute, Expect::Sync]);
        assert_eq!(feed(&mut pipelined, "GEZ"), "GEZ");
        assert!(!pipelined.skipping);
    }

    #[test]
    fn what_was_to_be_closed_and_what_was_closed_is_counted() {
        let close = |own| Expect::Close { own };
        let mut all = of([close(true), Expect::Bind, close(false), close(true), Expect::Sync]);
        assert_eq!(feed(&mut all, "3EZ"), ".EZ");
        assert_eq!((all.closing, all.answered), (1, 0));
        let mut done = of([close(true), close(false), Expect::Ready(vec![b'3', 0, 0, 0, 4]), Expect::Sync]);
        assert_eq!(feed(&mut done, "33Z"), ".3Z");
        assert_eq!((done.closing, done.answered), (0, 2));
    }

    #[test]
    fn what_cannot_come_is_noticed() {
        assert_eq!(feed(&mut of([Expect::Bind]), "1"), "?");
        assert_eq!(feed(&mut of([]), "D"), "?");
        assert_eq!(feed(&mut of([Expect::Execute, Expect::Sync]), "Z"), "?");
    }
}
