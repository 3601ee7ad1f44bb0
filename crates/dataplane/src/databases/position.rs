//! The WAL position that covers everything a session has committed, for handing over to another.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::causal::Need;
use super::group::Group;
use super::session::Session;

/// A primary that does not say where it is for this long is down; the position then stays what is known.
const PATIENCE: Duration = Duration::from_secs(1);

/// The position. Asks the primary when the session has written since it was last asked.
pub async fn of(session: &mut Session, group: &Group) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = group.view().clone();
        let Some(primary) = view.primary() else { return u64::MAX };
        match session.horizon.need(primary.sample_as_primary()) {
            Need::Position(position) => return position,
            Need::SampleSince(since_us) => {
                let answer = timeout_at(deadline, primary.vitals.begun_after(since_us)).await;
                if !matches!(answer, Ok(Some(answer)) if !answer.in_recovery) {
                    // Beyond what any replica has: who gets it reads from the primary.
                    return u64::MAX;
                }
            }
        }
    }
}
