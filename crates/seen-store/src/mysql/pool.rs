//! Connections of one class of work at one shard. Its own rather than sqlx's pool: there a query
//! that is dropped while its server is silent never gives its permit back, and after as many of them
//! as the pool has connections the pool is dead for good (see `tests/mysql_silent.rs`). Here work
//! runs in a task that its caller cannot cancel, under a limit of its own, and whatever ends badly
//! takes its connection with it and gives its permit back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seen_filter::{StoreError, StoreErrorKind};
use sqlx::MySqlConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{Role, connect};
use super::dialect::ServerFacts;
use super::errors::{Failure, Stage};
use super::home::Home;
use super::late::{self, Lateness};
use super::numbering::CommitNumber;
use super::options::MySqlOptions;
use super::retry::RetryBudget;
use super::server::ServerAddress;

/// A future of work on a connection.
pub(crate) type Working<'c, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'c>>;

/// A connection with what is known of its server.
pub(crate) struct Session {
    pub connection: MySqlConnection,
    pub facts: ServerFacts,
    /// How far the work has come, for the verdict on a client limit that passes.
    pub stage: Stage,
    /// What the server told after this connection's last commit.
    pub last_number: Option<CommitNumber>,
    /// A MySQL server may be asked for the numbers of this connection's commits.
    pub tells_gtid: bool,
    /// The work was done, and the connection is lost all the same.
    pub is_spent: bool,
    /// How late its reads are, where they may be.
    pub lateness: Option<Lateness>,
    address: ServerAddress,
    watch: Arc<Home>,
}

/// Connections for one role.
pub(crate) struct Pool {
    role: Role,
    options: Arc<MySqlOptions>,
    primary: Arc<Home>,
    budget: Arc<RetryBudget>,
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(
        role: Role,
        options: Arc<MySqlOptions>,
        primary: Arc<Home>,
        budget: Arc<RetryBudget>,
    ) -> Arc<Self> {
        let connections_max = match role {
            Role::Check | Role::LateCheck => options.check_connections_max,
            Role::Write => options.write_connections_max,
            Role::Page | Role::Probe => options.page_connections_max,
        };
        Arc::new(Self {
            role,
            options,
            primary,
            budget,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(connections_max)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Does `work` on a connection to the primary, again if nothing of it was done and the retry
    /// budget allows. The work goes on when the caller goes away, until its limit.
    ///
    /// # Errors
    /// What the work failed with; `Overloaded` if too many wait; `Unavailable` without a primary.
    pub(crate) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> Fn(&'c mut Session) -> Working<'c, T> + Send + Sync + 'static,
    {
        let permit = self.permit().await?;
        let pool = Arc::clone(self);
        let task = tokio::spawn(async move {
            let done = pool.attempts(work).await;
            drop::<OwnedSemaphorePermit>(permit);
            done
        });
        task.await.map_err(|_| {
            let message = "the store's runtime was stopped; the call may or may not be done";
            StoreError::new(StoreErrorKind::OutcomeUnknown, message)
        })?
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let waiting_max = self.options.pending_reads_max;
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= waiting_max {
            return Err(StoreError::new(
                StoreErrorKind::Overloaded,
                format!("pending_reads_max = {waiting_max} reads wait already; try again later"),
            ));
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        drop(waiting);
        permit.map_err(|_| closed())
    }

    async fn attempts<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        W: for<'c> Fn(&'c mut Session) -> Working<'c, T> + Send + Sync,
    {
        self.budget.deposit();
        let patience = Duration::from_millis(self.role.patience_ms(&self.options));
        let until = tokio::time::Instant::now() + patience;
        loop {
            let failure = match tokio::time::timeout_at(until, self.session()).await {
                Err(_) => Failure::Silent(Stage::Open, self.role.patience_ms(&self.options)),
                Ok(Err(failure)) => failure,
                Ok(Ok(mut session)) => {
                    session.stage = Stage::Read;
                    let worked = tokio::time::timeout_at(until, work(&mut session)).await;
                    let worked = worked.unwrap_or_else(|_| {
                        let patience_ms = self.role.patience_ms(&self.options);
                        Err(Failure::Silent(session.stage, patience_ms))
                    });
                    match worked {
                        Ok(done) => {
                            if !session.is_spent {
                                self.idle.lock().push(session);
                            }
                            return Ok(done);
                        }
                        Err(failure) => {
                            let consequence = failure.consequence();
                            if consequence.keep {
                                self.clean(session, until).await;
                            } else if consequence.suspect {
                                // What befell one connection befell the idle ones, too.
                                self.idle.lock().clear();
                            }
                            failure
                        }
                    }
                }
            };
            let consequence = failure.consequence();
            if consequence.suspect {
                self.primary.suspect();
            }
            let is_late = tokio::time::Instant::now() >= until;
            if consequence.again && !is_late && self.budget.withdraw() {
                continue;
            }
            return Err(failure.into_store_error(&self.place()));
        }
    }

    /// An idle connection to the current primary, or a new one.
    async fn session(&self) -> Result<Session, Failure> {
        let primary = self.primary.primary().map_err(Failure::Store)?;
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(session) if session.address == primary.address => return Ok(session),
                // Of a server that was the primary once.
                Some(_) => {}
                None => break,
            }
        }
        let database = &self.primary.database;
        let (mut connection, facts) =
            connect(&self.options, &primary.address, Some(database), self.role).await?;
        if facts.read_only {
            self.primary.suspect();
            return Err(Failure::Store(not_primary(&primary.address)));
        }
        let lateness = match self.role {
            Role::LateCheck => Some(late::begin(&mut connection, &self.options).await?),
            _ => None,
        };
        Ok(Session {
            connection,
            facts,
            stage: Stage::Read,
            last_number: None,
            tells_gtid: self.role == Role::Write,
            is_spent: false,
            lateness,
            address: primary.address,
            watch: Arc::clone(&self.primary),
        })
    }

    /// Keeps a connection after a failure that left it whole, with no transaction open.
    async fn clean(&self, mut session: Session, until: tokio::time::Instant) {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut session.connection);
        if let Ok(Ok(_)) = tokio::time::timeout_at(until, rollback).await {
            self.idle.lock().push(session);
        }
    }

    fn place(&self) -> String {
        let shard = self.primary.shard;
        match self.primary.standing().primary() {
            Some(primary) => format!("shard {shard} at {}", primary.address),
            None => format!("shard {shard}"),
        }
    }

    /// Permits that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.permits.available_permits()
    }

    /// Refuses further work and closes the idle connections.
    pub(crate) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for session in idle {
            let limit = self.options.connect_timeout();
            let _ = tokio::time::timeout(limit, sqlx::Connection::close(session.connection)).await;
        }
    }
}

/// Counts one caller that waits, while it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The error of a store that was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store is closed; open it again")
}

/// The error of a server that answers and is not the primary (coherence row 51).
pub(crate) fn not_primary(address: &ServerAddress) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!("{address} takes no writes any more; the primary is being looked for"),
    )
}

impl Session {
    /// The error for an answer that says that this server takes no writes. The primary is looked for
    /// at once.
    pub(crate) fn demoted(&self) -> StoreError {
        self.watch.doubt();
        not_primary(&self.address)
    }
}
