//! Passing the messages of a connection to the app: as usual, or while the connection drains or is at a limit.

use crate::conn::NextMessage;
use crate::reactor::app::{App, ConnCx};
use crate::wire::Protocol;

/// Passes the next message, of any kind, to the app. Returns false if there is none.
#[inline(never)]
pub(super) fn take_message<A: App>(app: &mut A, cx: &mut ConnCx<'_, A>) -> bool {
    match cx.conn.next_message(cx.pool, cx.now, cx.limits) {
        NextMessage::Message { message, consumed } => {
            if cx.conn.is_fast_path() {
                app.on_message(cx, message);
            } else {
                pass_on_slow(app, cx, message);
            }
            cx.conn.consume(consumed);
            true
        }
        NextMessage::Answered => true,
        NextMessage::Unread => {
            app.on_unread();
            true
        }
        NextMessage::Nothing => false,
    }
}

/// Passes on a message of a connection that drains, or whose reading is stopped or restricted.
#[cold]
#[inline(never)]
fn pass_on_slow<A: App>(app: &mut A, cx: &mut ConnCx<'_, A>, message: <A::Protocol as Protocol>::Message) {
    if cx.conn.refuses_calls(cx.now) {
        app.on_message_after_drain(cx, message);
    } else if cx.conn.is_saturated() {
        app.on_message_while_saturated(cx, message);
    } else {
        app.on_message(cx, message);
    }
}
