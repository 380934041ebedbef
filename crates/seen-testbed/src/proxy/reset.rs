//! Closing a connection as a crash does: with a reset, which the standard library cannot ask for.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

const SOL_SOCKET: c_int = 1;
const SO_LINGER: c_int = 13;

/// `struct linger` of Linux.
#[repr(C)]
struct Linger {
    on: c_int,
    seconds: c_int,
}

unsafe extern "C" {
    fn setsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        bytes: u32,
    ) -> c_int;
}

/// Makes the closing of a connection a reset: what was not delivered is thrown away.
pub(super) fn when_closed(stream: &TcpStream) -> io::Result<()> {
    let linger = Linger { on: 1, seconds: 0 };
    let bytes = u32::try_from(size_of::<Linger>()).map_err(io::Error::other)?;
    // SAFETY: the socket is open as long as it is borrowed, and the value is read during the call only,
    // for as many bytes as it has.
    let status = unsafe {
        setsockopt(
            stream.as_raw_fd(),
            SOL_SOCKET,
            SO_LINGER,
            (&raw const linger).cast::<c_void>(),
            bytes,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
