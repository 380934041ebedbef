//! Tries the models and says what came of it: `cargo run -p seen-models -- --model failover`. With
//! `--features sabotage` also without one of the rules: `--without R9` tells the story that breaks the
//! promise. Stories go to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use seen_models::{Model, Rule, SmallWorld, models};

const USAGE: &str = "usage: seen-models [--list] [--model NAME] [--world NAME] [--without RULE] \
                     [--threads N]";

/// What is to be done.
#[derive(Default)]
struct Options {
    list: bool,
    model: Option<String>,
    world: Option<String>,
    without: Option<Rule>,
    threads: Option<usize>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(name) = args.next() {
            if name == "--list" {
                options.list = true;
                continue;
            }
            let value =
                args.next().ok_or_else(|| format!("{name}: a value is missing\n{USAGE}"))?;
            match name.as_str() {
                "--model" => options.model = Some(value),
                "--world" => options.world = Some(value),
                "--without" => options.without = Some(rule(&value)?),
                "--threads" => {
                    let threads =
                        value.parse().map_err(|_| format!("--threads {value}: a number"))?;
                    options.threads = Some(threads);
                }
                _ => return Err(format!("{name}: unknown\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// The models and worlds that are meant; each world as it is to be tried.
    fn chosen(&self) -> Result<Vec<Model>, String> {
        let mut chosen = models();
        chosen.retain(|model| self.model.as_deref().is_none_or(|name| model.name == name));
        for model in &mut chosen {
            model
                .worlds
                .retain(|world| self.world.as_deref().is_none_or(|name| world.name == name));
            for world in &mut model.worlds {
                *world = without(world.clone(), self.without)?;
            }
        }
        chosen.retain(|model| !model.worlds.is_empty());
        match chosen.is_empty() {
            true => Err("no such model or world: see --list".to_owned()),
            false => Ok(chosen),
        }
    }
}

fn rule(name: &str) -> Result<Rule, String> {
    let named = |rule: &Rule| format!("{rule:?}").eq_ignore_ascii_case(name);
    Rule::ALL.into_iter().find(named).ok_or_else(|| format!("{name}: one of {:?}", Rule::ALL))
}

#[cfg(feature = "sabotage")]
fn without(world: SmallWorld, rule: Option<Rule>) -> Result<SmallWorld, String> {
    Ok(match rule {
        Some(rule) => world.without(rule),
        None => world,
    })
}

#[cfg(not(feature = "sabotage"))]
fn without(world: SmallWorld, rule: Option<Rule>) -> Result<SmallWorld, String> {
    match rule {
        Some(_) => Err("--without needs `cargo run -p seen-models --features sabotage`".to_owned()),
        None => Ok(world),
    }
}

/// Tries one world. True if the promise holds and everything was tried.
fn try_world(world: &SmallWorld, threads: usize, out: &mut impl Write) -> io::Result<bool> {
    let is_terminal = io::stderr().is_terminal();
    let explored = world.explore(threads, |progress| {
        if is_terminal {
            let (states, depth) = (progress.states, progress.depth);
            eprint!("\r  {}: {states} states, {depth} steps deep \r", world.name);
        }
    });
    let progress = explored.progress;
    let verdict = match (&explored.broken, explored.finished) {
        (Some((promise, _)), _) => format!("BROKEN: {}", promise.label()),
        (None, true) => "holds".to_owned(),
        (None, false) => "given up: too large".to_owned(),
    };
    writeln!(
        out,
        "  {}: {} states, {} reached, {} steps deep, {:.1} s: {verdict}",
        world.name,
        progress.states,
        progress.reached,
        progress.depth,
        progress.took.as_secs_f64(),
    )?;
    writeln!(out, "    {}", world.bounds())?;
    let landmarks: Vec<&str> = explored.landmarks.iter().map(|mark| mark.label()).collect();
    writeln!(out, "    shows: {}", landmarks.join("; "))?;
    if let Some((_, story)) = &explored.broken {
        writeln!(out, "{story}")?;
    }
    Ok(explored.broken.is_none() && explored.finished)
}

fn run(options: &Options, out: &mut impl Write) -> Result<bool, String> {
    let mut holds = true;
    for model in options.chosen()? {
        let failed = |error: io::Error| error.to_string();
        writeln!(out, "{}: {}", model.name, model.about).map_err(failed)?;
        for world in &model.worlds {
            if options.list {
                writeln!(out, "  {}\n    {}", world.name, world.bounds()).map_err(failed)?;
                continue;
            }
            // One thread finds the shortest story.
            let threads = options.threads.unwrap_or(if options.without.is_some() { 1 } else { 2 });
            holds &= try_world(world, threads, out).map_err(failed)?;
            if !holds {
                return Ok(false);
            }
        }
    }
    Ok(holds)
}

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1))
        .and_then(|options| run(&options, &mut io::stdout().lock()));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
