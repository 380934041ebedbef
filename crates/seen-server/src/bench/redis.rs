//! The same 400 checks on a Redis server: Bloom filters kept as bitsets, asked by pipelined GETBIT,
//! which is how the published system began; and RedisBloom where its address is given.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::chart::{Bar, Chart};
use super::figure::Figure;
use super::filter::{ITEMS, Server, USERS, cpu_us};
use super::load::{Pace, Shape};
use super::progress::Progress;
use super::resp::{Answer, Connection, put_command};
use super::synthetic::{CANDIDATES, HISTORIES, Random, candidates, read_id};
use super::{BenchError, Outcome, Plan, system};

/// Connections, each with one question of 400 ids at a time, on both sides.
const CONNECTIONS: usize = 4;
/// Bits and probes of a classic Bloom filter for [`ITEMS`] items at 1 %.
const BITS: u64 = 49_152;
const PROBES: u64 = 7;
/// Ports that are tried; the kernel gives those from 32768 on to anybody.
const PORTS: std::ops::Range<u16> = 21_000..21_200;
/// Users with a RedisBloom filter: they are filled by commands, which takes long.
const REDISBLOOM_USERS: u64 = 1_000;
/// Items of one BF.MADD.
const MADD_ITEMS: u64 = 1_000;
/// How long a server may take to answer its first command.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// What keys begin with.
const PREFIX: &str = "seen-bench:";

/// Measures it.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let mut outcome = Outcome::default();
    let lasting = plan.pick(Duration::from_secs(2), Duration::from_secs(6));
    let Some(redis) = Redis::start(progress)? else {
        outcome.notes.push(ABSENT.to_owned());
        return Ok(outcome);
    };
    progress.step("redis_bitset: starting our server")?;
    let seen = Server::start(1, USERS, &plan.dir)?;
    progress.step("redis_bitset: our 400 checks")?;
    let shape = Shape { connections: CONNECTIONS, streams: 1, pace: Pace::Closed, lasting };
    let began = Instant::now();
    let (cpu, tally) = cpu_us(&seen.part, &seen.target, shape, 1)?;
    let wall = began.elapsed().as_secs_f64() * 1e6 / tally.answered.max(1) as f64;
    let ours = Cost { cpu_us: cpu, wall_us: wall };
    let users = plan.pick(20_000, 50_000);
    progress.step("redis_bitset: filling redis-server")?;
    let bitset = Bitset::fill(redis.address, users)?;
    progress.step("redis_bitset: 2,800 GETBIT a question")?;
    let theirs = cost(redis.address, lasting, |seed| bitset.questions(seed))?;
    compare(&mut outcome, "redis_bitset", "redis-server, 7 GETBIT an id", &ours, &theirs);
    outcome.notes.push(format!(
        "redis_bitset: one server thread on each side, {CONNECTIONS} connections with one question \
         of 400 ids at a time; CPU is the server's"
    ));
    if let Some(address) = plan.redisbloom {
        progress.step("redis_bloom: filling RedisBloom")?;
        let users = RedisBloom::fill(address)?;
        progress.step("redis_bloom: BF.MEXISTS of 400")?;
        let theirs = cost(address, lasting, |seed| users.questions(seed));
        users.remove()?;
        compare(&mut outcome, "redis_bloom", "RedisBloom, BF.MEXISTS", &ours, &theirs?);
    }
    Ok(outcome)
}

/// Said where the comparison cannot be made.
const ABSENT: &str = "redis_bitset was skipped: there is no redis-server; install it with: \
                      apt-get install redis-server";

/// What 400 checks cost.
struct Cost {
    cpu_us: f64,
    wall_us: f64,
}

fn compare(outcome: &mut Outcome, name: &str, rival: &str, ours: &Cost, theirs: &Cost) {
    let pairs = [
        ("cpu", ours.cpu_us, theirs.cpu_us, "us of server CPU for 400 checks"),
        ("wall", ours.wall_us, theirs.wall_us, "us from one answer of 400 checks to the next"),
    ];
    for (what, ours, theirs, unit) in pairs {
        let name = format!("{name}_{what}");
        outcome.figures.push(Figure::of(&name, ours, unit).against(theirs, rival));
        outcome.charts.push(
            Chart::new(name, unit)
                .bar(Bar::ours("seen, gRPC and all", ours))
                .bar(Bar::rival(rival, theirs)),
        );
    }
}

/// A private redis-server.
struct Redis {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Redis {
    /// `None` where there is no such program.
    fn start(progress: &Progress) -> Result<Option<Self>, BenchError> {
        let folder = tempfile::Builder::new().prefix("seen-bench-redis-").tempdir();
        let folder = folder.map_err(system("cannot make a folder for redis-server"))?;
        let port = free_port().map_err(system("no port is free for redis-server"))?;
        let started = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--daemonize", "no", "--loglevel", "warning", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                progress.warn(ABSENT);
                return Ok(None);
            }
            Err(error) => return Err(system("cannot start redis-server")(error)),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let redis = Self { child, address, _folder: folder };
        redis.answers().map_err(system("redis-server does not answer"))?;
        Ok(Some(redis))
    }

    /// Waits for its first answer.
    fn answers(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            let asked = Connection::open(self.address).and_then(|mut c| c.ask(&[b"PING"]));
            match asked {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > STARTS_WITHIN => return Err(error),
                Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One question: its pipeline, and how many of its answers are awaited.
struct Question {
    pipeline: Vec<u8>,
    answers: Answers,
}

/// How an answer is read.
#[derive(Clone, Copy)]
enum Answers {
    /// A bit for each probe; an id is seen if all of its are set.
    Bits,
    /// One list with a number for each id.
    List,
}

impl Question {
    /// Asks, and says how many ids were called seen.
    fn put(&self, connection: &mut Connection) -> io::Result<usize> {
        connection.send(&self.pipeline)?;
        match self.answers {
            Answers::Bits => {
                let mut seen = 0;
                for _ in 0..CANDIDATES {
                    let mut all = 1;
                    for _ in 0..PROBES {
                        all &= connection.number()?;
                    }
                    seen += all as usize;
                }
                Ok(seen)
            }
            Answers::List => match connection.answer()? {
                Answer::List(list) => {
                    Ok(list.iter().filter(|one| **one == Answer::Number(1)).count())
                }
                other => Err(io::Error::other(format!("no list: {other:?}"))),
            },
        }
    }
}

/// Asks over several connections for a while.
fn cost(
    address: SocketAddr,
    lasting: Duration,
    questions: impl Fn(u64) -> Vec<Question> + Sync,
) -> Result<Cost, BenchError> {
    let spent = |c: &mut Connection| cpu_seconds(c).map_err(system("cannot read Redis' CPU"));
    let mut control = Connection::open(address).map_err(system("cannot reach Redis"))?;
    let all: Vec<Vec<Question>> = (0..CONNECTIONS as u64).map(&questions).collect();
    let before = spent(&mut control)?;
    let began = Instant::now();
    let asked = std::thread::scope(|scope| {
        let threads: Vec<_> =
            all.iter().map(|own| scope.spawn(move || ask(address, own, began + lasting))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(asked) => asked.map_err(system("Redis")),
            Err(_) => Err(BenchError::Wrong("a thread that asked Redis panicked".to_owned())),
        });
        joined.sum::<Result<u64, BenchError>>()
    })?;
    let wall = began.elapsed().as_secs_f64();
    let cpu = spent(&mut control)? - before;
    let asked = asked.max(1) as f64;
    Ok(Cost { cpu_us: cpu * 1e6 / asked, wall_us: wall * 1e6 / asked })
}

fn ask(address: SocketAddr, questions: &[Question], until: Instant) -> io::Result<u64> {
    let mut connection = Connection::open(address)?;
    let mut asked = 0;
    for question in questions.iter().cycle() {
        let seen = question.put(&mut connection)?;
        if seen < CANDIDATES / 2 {
            return Err(io::Error::other(format!("only {seen} ids were called seen")));
        }
        asked += 1;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(asked)
}

/// CPU that the server has taken, by its own account.
fn cpu_seconds(connection: &mut Connection) -> io::Result<f64> {
    let Answer::Text(text) = connection.ask(&[b"INFO", b"cpu"])? else {
        return Err(io::Error::other("INFO is no text"));
    };
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse::<f64>().ok())
    };
    let (user, system) = (value("used_cpu_user:"), value("used_cpu_sys:"));
    user.zip(system)
        .map(|(user, system)| user + system)
        .ok_or_else(|| io::Error::other("INFO names no CPU"))
}

/// Questions that each connection repeats, of as many users.
const QUESTIONS: u64 = 256;

/// Bitsets, one key a user.
struct Bitset {
    users: u64,
}

fn key(user: u64) -> String {
    format!("{PREFIX}{user}")
}

/// The bits of an item: double hashing of one 64-bit hash.
fn probes(id: u64) -> impl Iterator<Item = u64> {
    let hash = Random::new(id).next();
    let (first, step) = (hash >> 32, hash & 0xffff_ffff | 1);
    (0..PROBES).map(move |n| (first + n * step) % BITS)
}

impl Bitset {
    fn fill(address: SocketAddr, users: u64) -> Result<Self, BenchError> {
        let mut values = Vec::with_capacity(HISTORIES as usize);
        for history in 0..HISTORIES {
            let mut bits = vec![0_u8; (BITS / 8) as usize];
            for id in (0..ITEMS).map(|n| read_id(history, n)) {
                probes(id).for_each(|bit| bits[(bit / 8) as usize] |= 128 >> (bit % 8));
            }
            values.push(bits);
        }
        let fill = || {
            let mut connection = Connection::open(address)?;
            for user in 0..users {
                let value = &values[(user % HISTORIES) as usize];
                connection.ask(&[b"SET", key(user).as_bytes(), value])?;
            }
            Ok(Self { users })
        };
        fill().map_err(system("cannot fill redis-server"))
    }

    fn questions(&self, seed: u64) -> Vec<Question> {
        let mut random = Random::new(seed);
        let question = |_| {
            let user = random.below(self.users);
            let key = key(user);
            let mut pipeline = Vec::new();
            for id in candidates(user % HISTORIES, seed, ITEMS) {
                for bit in probes(id) {
                    let bit = bit.to_string();
                    put_command(&mut pipeline, &[b"GETBIT", key.as_bytes(), bit.as_bytes()]);
                }
            }
            Question { pipeline, answers: Answers::Bits }
        };
        (0..QUESTIONS).map(question).collect()
    }
}

/// RedisBloom filters, one key a user.
struct RedisBloom {
    address: SocketAddr,
}

impl RedisBloom {
    fn fill(address: SocketAddr) -> Result<Self, BenchError> {
        let fill = || {
            let mut connection = Connection::open(address)?;
            let items = ITEMS.to_string();
            for user in 0..REDISBLOOM_USERS {
                let key = key(user);
                connection.ask(&[b"BF.RESERVE", key.as_bytes(), b"0.01", items.as_bytes()])?;
                for from in (0..ITEMS).step_by(MADD_ITEMS as usize) {
                    let ids = (from..from + MADD_ITEMS).map(|n| read_id(user % HISTORIES, n));
                    connection.ask(&words(b"BF.MADD", &key, &texts(ids)))?;
                }
            }
            Ok(Self { address })
        };
        fill().map_err(system("cannot fill RedisBloom (does that server have the module?)"))
    }

    fn questions(&self, seed: u64) -> Vec<Question> {
        let mut random = Random::new(seed);
        let question = |_| {
            let user = random.below(REDISBLOOM_USERS);
            let ids = candidates(user % HISTORIES, seed, ITEMS);
            let mut pipeline = Vec::new();
            put_command(&mut pipeline, &words(b"BF.MEXISTS", &key(user), &texts(ids.into_iter())));
            Question { pipeline, answers: Answers::List }
        };
        (0..QUESTIONS).map(question).collect()
    }

    /// The server is somebody's own: what was put there goes again.
    fn remove(&self) -> Result<(), BenchError> {
        let remove = || {
            let mut connection = Connection::open(self.address)?;
            for user in 0..REDISBLOOM_USERS {
                connection.ask(&[b"UNLINK", key(user).as_bytes()])?;
            }
            Ok(())
        };
        remove().map_err(system("cannot remove the keys seen-bench:* from RedisBloom"))
    }
}

fn texts(ids: impl Iterator<Item = u64>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}

fn words<'a>(command: &'a [u8], key: &'a str, ids: &'a [String]) -> Vec<&'a [u8]> {
    let ids = ids.iter().map(|id| id.as_bytes());
    [command, key.as_bytes()].into_iter().chain(ids).collect()
}
