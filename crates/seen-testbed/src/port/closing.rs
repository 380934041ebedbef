//! Ending a listener under every copy of its descriptor, which the standard library cannot ask for.

use std::ffi::c_int;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

const SHUT_RDWR: c_int = 2;

unsafe extern "C" {
    fn shutdown(socket: c_int, how: c_int) -> c_int;
}

/// Makes a listening socket listen no more, whoever else holds a descriptor of it.
pub(super) fn shut(listener: &TcpListener) {
    // SAFETY: the socket is open as long as it is borrowed, and nothing is handed over but its number.
    let _closed_anyway_when_dropped = unsafe { shutdown(listener.as_raw_fd(), SHUT_RDWR) };
}
