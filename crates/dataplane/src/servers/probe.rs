//! Active health checks: one small task per server, for as long as the server is in its pool's view.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::health::active::{ActiveSettings, Kind, ProbeResult, RiseFall, judge_response, probe_request};
use super::pool::Pool;
use super::server::Server;
use crate::buffer::Buffer;
use crate::net::stream::Stream;
use crate::request_id::random;

/// Ends by itself when the server or the pool is gone, or checks are switched off.
pub async fn watch(pool: Weak<Pool>, server: Weak<Server>) {
    let mut rise_fall: Option<RiseFall> = None;
    loop {
        let Some((pool, server, settings, ready)) = subject(&pool, &server) else {
            if let Some(server) = server.upgrade() {
                server.stop_watching();
            }
            return;
        };
        let rise_fall = rise_fall.get_or_insert_with(|| RiseFall::new(ready));
        let result = probe(&server, &settings).await;
        if let Some(up) = rise_fall.observe(result, &settings) {
            {
                let mut condition = server.condition();
                condition.active_up = Some(up);
                condition.active_reason = if up { String::new() } else { rise_fall.failure().to_owned() };
            }
            pool.judge();
        }
        drop((pool, server));
        // A little out of step, so that many checks do not fall on one moment.
        let jitter = 0.9 + (random() % 1000) as f64 / 5000.0;
        sleep(Duration::from_millis((settings.interval_ms as f64 * jitter) as u64)).await;
    }
}

type Subject = (Arc<Pool>, Arc<Server>, ActiveSettings, bool);

fn subject(pool: &Weak<Pool>, server: &Weak<Server>) -> Option<Subject> {
    let (pool, server) = (pool.upgrade()?, server.upgrade()?);
    let (settings, ready) = {
        let view = pool.view();
        let member = view.members.iter().find(|member| Arc::ptr_eq(&member.server, &server))?;
        (view.settings.active.clone()?, member.ready)
    };
    Some((pool, server, settings, ready))
}

async fn probe(server: &Server, settings: &ActiveSettings) -> ProbeResult {
    let work = async {
        let mut stream = match Stream::connect(&server.address).await {
            Ok(stream) => stream,
            Err(error) => return ProbeResult::Fail(format!("connect: {error}")),
        };
        match settings.kind {
            Kind::Tcp => ProbeResult::Pass,
            Kind::Http => ask(&mut stream, settings).await,
        }
    };
    match timeout(Duration::from_millis(settings.timeout_ms), work).await {
        Ok(result) => result,
        // All its threads may be busy with requests that it was given: that is not being unwell.
        Err(_) if server.in_flight() > 0 => ProbeResult::Busy,
        Err(_) => ProbeResult::Fail(format!("no answer within {} ms", settings.timeout_ms)),
    }
}

async fn ask(stream: &mut Stream, settings: &ActiveSettings) -> ProbeResult {
    let request = probe_request(&settings.path);
    let mut sent = 0;
    let mut answer = Buffer::small();
    while sent < request.len() {
        match poll_fn(|cx| stream.poll_write(cx, &request[sent..])).await {
            Ok(count @ 1..) => sent += count,
            Ok(0) | Err(_) => return ProbeResult::Fail("broke off the connection".into()),
        }
    }
    loop {
        let read = poll_fn(|cx| stream.poll_read(cx, answer.room())).await;
        match read {
            Ok(count @ 1..) => answer.advance(count),
            Ok(0) | Err(_) => return ProbeResult::Fail("broke off the connection".into()),
        }
        if answer.is_full() || memchr::memmem::find(answer.filled(), b"\r\n\r\n").is_some() {
            return judge_response(answer.filled(), &settings.expect);
        }
    }
}
