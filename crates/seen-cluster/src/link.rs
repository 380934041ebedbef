//! How requests travel from a proxy to a replica: frames over one long-lived connection, many in one system call.
