//! Opening the file: one transaction that migrates, finds out whether this is a restored copy, and
//! makes the missing tables, so that processes which open at the same time come one after another.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use seen_filter::{HashKey, NamespaceSettings, StoreError, StoreErrorKind, Timeline, UnixMillis};
use sqlx::migrate::Migrator;
use sqlx::{Connection, Row as _, SqliteConnection};

use super::connection::{Role, connect_options, with_suffix};
use super::errors::{Stage, map, map_migrate};
use super::namespaces::{self, Tables};
use super::options::SqliteOptions;
use super::timeline::{self, Marker, SideFile};
use crate::metrics::TIMELINES;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// What the first migration marks the file with: "SEEN".
const APPLICATION_ID: i64 = 0x5345_454e;

/// An open file.
pub(crate) struct Opened {
    pub connection: SqliteConnection,
    pub side_file: Option<SideFile>,
    pub identity: Identity,
    pub tables: Tables,
}

/// What the store's row says at opening.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub partitions: u16,
    pub hash_key: HashKey,
    pub marker: Marker,
}

/// Opens, and creates where that is asked for.
pub(crate) async fn open(
    options: &SqliteOptions,
    settings: Vec<NamespaceSettings>,
) -> Result<Opened, StoreError> {
    look_at_path(options)?;
    let connection = connect(options).await?;
    match options.read_only {
        true => open_for_reading(options, connection, settings).await,
        false => open_for_writing(options, connection, settings).await,
    }
}

/// Errors with advice for what SQLite would only call "unable to open".
fn look_at_path(options: &SqliteOptions) -> Result<(), StoreError> {
    let unavailable = |message| Err(StoreError::new(StoreErrorKind::Unavailable, message));
    let path = &options.path;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return unavailable(format!(
            "the folder {} of the store does not exist; create it or change the path",
            folder.display()
        ));
    }
    if path.is_dir() {
        return unavailable(format!("{} is a folder; give the path of a file", path.display()));
    }
    if !path.exists() && (options.read_only || !options.create) {
        return unavailable(format!(
            "{} does not exist and is not to be created; change the path, or allow its creation",
            path.display()
        ));
    }
    Ok(())
}

/// Switching a new file to the write-ahead log needs the file alone and does not wait for it: of
/// several processes at the start one does it, and the others find it done when they try again.
async fn connect(options: &SqliteOptions) -> Result<SqliteConnection, StoreError> {
    let connect = connect_options(options, Role::Write).create_if_missing(options.create);
    let give_up_at = Instant::now() + Duration::from_millis(options.busy_timeout_ms);
    loop {
        let error = match SqliteConnection::connect_with(&connect).await {
            Ok(connection) => return Ok(connection),
            Err(error) => map(&error, Stage::Open, &options.path),
        };
        if error.kind != StoreErrorKind::Unavailable || Instant::now() >= give_up_at {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(options.feed_poll_ms)).await;
    }
}

async fn open_for_reading(
    options: &SqliteOptions,
    mut connection: SqliteConnection,
    settings: Vec<NamespaceSettings>,
) -> Result<Opened, StoreError> {
    let path = &options.path;
    refuse_others(&mut connection, path).await?;
    let newest = newest_version();
    let applied: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .map_err(|e| map(&e, Stage::Open, path))?;
    if applied != newest {
        return Err(StoreError::new(
            StoreErrorKind::Schema,
            format!(
                "{}: schema version {applied}, but this program reads version {newest}; start the \
                 matching program, or open the file once for writing to upgrade it",
                path.display()
            ),
        ));
    }
    let now = options.clock.now();
    let identity = read_identity(&mut connection, options).await?;
    let tables = namespaces::open(&mut connection, path, settings, now, false).await?;
    Ok(Opened { connection, side_file: None, identity, tables })
}

async fn open_for_writing(
    options: &SqliteOptions,
    mut connection: SqliteConnection,
    settings: Vec<NamespaceSettings>,
) -> Result<Opened, StoreError> {
    let path = &options.path;
    let sql_error = |e: sqlx::Error| map(&e, Stage::Open, path);
    let now = options.clock.now();
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(sql_error)?;
    refuse_others(&mut transaction, path).await?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|e| map_migrate(e, path, newest_version()))?;
    insert_identity(&mut transaction, options, now).await.map_err(sql_error)?;
    let mut identity = read_identity(&mut transaction, options).await?;
    let side_file = settle_timeline(&mut transaction, options, &mut identity).await?;
    let tables = namespaces::open(&mut transaction, path, settings, now, true).await?;
    transaction.commit().await.map_err(sql_error)?;
    Ok(Opened { connection, side_file: Some(side_file), identity, tables })
}

/// Leaves other programs' databases alone: a file that has tables must carry this program's mark.
async fn refuse_others(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let (mark, tables): (i64, i64) = sqlx::query_as(
        "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id",
    )
    .fetch_one(connection)
    .await
    .map_err(|e| map(&e, Stage::Open, path))?;
    if mark == APPLICATION_ID || (mark == 0 && tables == 0) {
        return Ok(());
    }
    Err(StoreError::new(
        StoreErrorKind::Schema,
        format!("{} is another program's database; change the path", path.display()),
    ))
}

fn newest_version() -> i64 {
    MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

/// Gives a new file its identity; does nothing in an old one.
async fn insert_identity(
    connection: &mut SqliteConnection,
    options: &SqliteOptions,
    now: UnixMillis,
) -> Result<(), sqlx::Error> {
    let mut secret = [0_u8; 16];
    OsRng.try_fill_bytes(&mut secret).map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?;
    sqlx::query(
        "INSERT INTO store VALUES (1, ?, ?, ?, ?, ?, 0, 0, 0, 0) ON CONFLICT (id) DO NOTHING",
    )
    .bind(now.get().cast_signed())
    .bind(i64::from(options.partitions))
    .bind(i64::from(rand::random::<u32>()))
    .bind(secret.as_slice())
    .bind(rand::random::<u64>().cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

async fn read_identity(
    connection: &mut SqliteConnection,
    options: &SqliteOptions,
) -> Result<Identity, StoreError> {
    let path = &options.path;
    let sql_error = |e: sqlx::Error| map(&e, Stage::Open, path);
    let row = sqlx::query(
        "SELECT partitions, hash_key_id, hash_secret, timeline, opens, head FROM store",
    )
    .fetch_one(connection)
    .await
    .map_err(sql_error)?;
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(sql_error);
    let secret: Vec<u8> = row.try_get(2).map_err(sql_error)?;
    let damaged = |what: &str| {
        let at = path.display();
        StoreError::new(
            StoreErrorKind::Corrupt,
            format!("{at}: the store's {what} is damaged; restore a backup"),
        )
    };
    let secret = <[u8; 16]>::try_from(secret).map_err(|_| damaged("hash key"))?;
    let key_id = u32::try_from(number(1)?).map_err(|_| damaged("hash key's number"))?;
    let partitions = u16::try_from(number(0)?).map_err(|_| damaged("partition count"))?;
    let (inode, born_ns) = timeline::identity(path).map_err(|e| io_error(path, &e))?;
    let marker = Marker {
        timeline: number(3)?.cast_unsigned(),
        opens: number(4)?.cast_unsigned(),
        head: number(5)?.cast_unsigned(),
        inode,
        born_ns,
    };
    Ok(Identity { partitions, hash_key: HashKey::new(key_id, secret), marker })
}

/// Compares the file with its side file and begins a new timeline if they differ. The side file is
/// written before the transaction is committed: a crash between the two leaves a difference, and so
/// one more timeline at the next open, never one too few.
async fn settle_timeline(
    connection: &mut SqliteConnection,
    options: &SqliteOptions,
    identity: &mut Identity,
) -> Result<SideFile, StoreError> {
    let path = &options.path;
    let found = &mut identity.marker;
    let mut side_file = SideFile::open(path).map_err(|e| io_error(path, &e))?;
    let remembered = side_file.read().map_err(|e| io_error(path, &e))?;
    let is_new = found.opens == 0;
    let reason = match remembered {
        _ if is_new => None,
        _ if options.new_timeline => Some("new_timeline was asked for"),
        None => Some("the side file is missing or damaged"),
        Some(remembered) => timeline::difference(&remembered, found),
    };
    if let Some(reason) = reason {
        let old = Timeline::new(found.timeline);
        found.timeline = rand::random();
        metrics::counter!(TIMELINES).increment(1);
        tracing::warn!(reason, path = %path.display(), old = %old, new = found.timeline,
            "the store begins a new timeline: positions of the old one are not continued");
    }
    found.opens += 1;
    side_file.write(found, true).map_err(|e| io_error(path, &e))?;
    sqlx::query("UPDATE store SET timeline = ?, opens = ?")
        .bind(found.timeline.cast_signed())
        .bind(found.opens.cast_signed())
        .execute(connection)
        .await
        .map_err(|e| map(&e, Stage::Open, path))?;
    Ok(side_file)
}

fn io_error(path: &Path, error: &std::io::Error) -> StoreError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            StoreErrorKind::ReadOnly
        }
        _ => StoreErrorKind::Unavailable,
    };
    let side = with_suffix(path, ".timeline");
    StoreError::new(
        kind,
        format!(
            "{}: {error}; check that this user may write in the folder, and its free space",
            side.display()
        ),
    )
}
