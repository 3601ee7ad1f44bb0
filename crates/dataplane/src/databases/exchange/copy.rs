//! COPY data on its way from a client to a server, message by message, up to its end.

use std::task::{Context, Poll};

use super::super::protocol::frame::HEADER;
use super::super::protocol::messages::to_server;
use super::super::protocol::tag::to_server as tag;
use super::{Broken, Exchange};
use crate::buffer::LARGE;

/// COPY data that waits for the server.
const COPY_AHEAD: usize = LARGE;

impl Exchange<'_> {
    /// Takes COPY data from the client while the server takes it. True when there was some.
    pub(super) fn poll_copy_in(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let mut moved = false;
        while self.copy.len() - self.copied < COPY_AHEAD {
            let arrived = self.client.arrived();
            if arrived.is_empty() {
                match self.client.poll_fill(cx, self.request_max) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(_) => return Err(Broken::ClientGone),
                    Poll::Pending => break,
                }
            }
            let count = self.copy_in(arrived.len())?;
            if count == 0 {
                match self.client.poll_fill(cx, self.request_max) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(_) => return Err(Broken::ClientGone),
                    Poll::Pending => break,
                }
            }
            moved = true;
            if !self.expect.copying {
                break;
            }
        }
        Ok(moved)
    }

    /// A COPY has failed, and the client had sent one Sync or more behind the data that was at fault: the server answers them now.
    pub(super) fn sync_behind_error(&mut self) {
        if self.expect.skipping {
            for _ in 0..std::mem::take(&mut self.expect.held_syncs) {
                to_server::sync(&mut self.copy);
                self.expect.sync_behind_error();
            }
        }
    }

    /// Passes on one message of COPY data. Zero: it is not there as a whole yet.
    fn copy_in(&mut self, available: usize) -> Result<usize, Broken> {
        let arrived = self.client.arrived();
        if available < HEADER {
            return Ok(0);
        }
        let length = u32::from_be_bytes([arrived[1], arrived[2], arrived[3], arrived[4]]) as usize + 1;
        let kind = arrived[0];
        if !matches!(kind, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH | tag::SYNC) {
            // The server says what is wrong with it, and ends the connection. Its kind is all it looks at.
            self.copy.extend_from_slice(&arrived[..HEADER]);
            (self.expect.copying, self.violated) = (false, true);
            return Ok(HEADER);
        }
        if !(HEADER..=self.request_max).contains(&length) {
            return Err(Broken::ClientGone);
        }
        if available < length {
            return Ok(0);
        }
        if kind == tag::SYNC && !self.expect.is_query() {
            // The server ignores it, unless what came before it has ended the COPY: then it is sent on (`sync_behind_error`).
            self.expect.held_syncs += 1;
            self.client.consume(length);
            return Ok(length);
        }
        if kind != tag::FLUSH {
            self.expect.held_syncs = 0;
        }
        self.copy.extend_from_slice(&arrived[..length]);
        self.client.consume(length);
        match kind {
            tag::COPY_DONE | tag::COPY_FAIL => {
                self.expect.copying = false;
                if !self.expect.is_query() {
                    // The Sync that has the server show the end of it may be long in coming.
                    to_server::flush(&mut self.copy);
                }
            }
            _ => {}
        }
        Ok(length)
    }
}
