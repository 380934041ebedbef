//! The configuration: its example, its precedence, and what it refuses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seen_server::config::units::{size, span};
use seen_server::config::{
    Allowed, Config, ConfigError, Effective, Origin, SECTIONS, Sources, example,
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../seen.example.toml");

fn load(
    file: Option<&Path>,
    variables: &[(&str, &str)],
    flags: &[&str],
) -> Result<Effective, ConfigError> {
    Sources {
        file: file.map(Path::to_path_buf),
        variables: variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    }
    .load()
}

fn refusal(file: Option<&Path>, variables: &[(&str, &str)], flags: &[&str]) -> String {
    match load(file, variables, flags) {
        Ok(_) => panic!("not refused: {variables:?} {flags:?}"),
        Err(error) => error.to_string(),
    }
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("test.toml");
    std::fs::write(&path, text).expect("a file in it");
    (folder, path)
}

fn origin(effective: &Effective, key: &str) -> Origin {
    let setting = effective.settings.iter().find(|setting| setting.key == key);
    setting.unwrap_or_else(|| panic!("no setting {key}")).origin.clone()
}

#[test]
fn the_example_file_is_the_defaults_with_every_key_documented() {
    let text = std::fs::read_to_string(EXAMPLE).expect("seen.example.toml");
    assert!(
        text == example(),
        "seen.example.toml drifted; run: cargo run -p seen-server --example readme_tables"
    );
    let read = load(Some(Path::new(EXAMPLE)), &[], &[]).expect("the example is a configuration");
    assert_eq!(read.config, Config::default());
    let table: toml::Table = text.parse().expect("TOML");
    for section in &SECTIONS {
        let values = match &table[section.name] {
            toml::Value::Array(tables) => tables[0].as_table().expect("a table").clone(),
            table => table.as_table().expect("a table").clone(),
        };
        for option in section.options {
            let shown = match option.unset {
                None => values.contains_key(option.key),
                Some(_) => text.contains(&format!("\n# {} = ", option.key)),
            };
            assert!(shown, "{}.{} is missing", section.name, option.key);
            assert!(option.help.ends_with('.'), "{}.{}", section.name, option.key);
        }
        assert!(values.keys().all(|key| section.options.iter().any(|option| option.key == key)));
    }
}

/// Values just outside a range, as a flag would write them.
fn outside(allowed: Allowed) -> Vec<String> {
    let quoted = |text: String| format!("{text:?}");
    match allowed {
        Allowed::Count(least, most) => [least.checked_sub(1), most.checked_add(1)]
            .into_iter()
            .flatten()
            .map(|n| n.to_string())
            .collect(),
        Allowed::Share(least, most) => {
            vec![(least - 1e-6).to_string(), (most + 1e-6).to_string(), "nan".to_owned()]
        }
        Allowed::Size(least, most) => {
            [least - 1, most + 1].map(|n| quoted(size::format(n))).to_vec()
        }
        Allowed::Span(least, most) => {
            [least.checked_sub(Duration::from_millis(1)), Some(most + Duration::from_millis(1))]
                .into_iter()
                .flatten()
                .map(|time| quoted(span::format(time)))
                .collect()
        }
        Allowed::Flag | Allowed::OneOf(_) => vec!["\"sometimes\"".to_owned()],
        Allowed::Text(_) | Allowed::Secret => Vec::new(),
    }
}

#[test]
fn every_range_is_enforced_and_its_error_names_key_and_limits() {
    let mut tried = 0;
    for section in &SECTIONS {
        for option in section.options {
            for value in outside(option.allowed) {
                let (flag, key) = match section.name {
                    "namespace" if option.key == "bucket" => (
                        format!("namespace=[{{name=\"x\", retention=\"48h\", bucket={value}}}]"),
                        "namespace.0.bucket".to_owned(),
                    ),
                    "namespace" => (
                        format!("namespace=[{{name=\"x\", {}={value}}}]", option.key),
                        format!("namespace.0.{}", option.key),
                    ),
                    name => {
                        (format!("{name}.{}={value}", option.key), format!("{name}.{}", option.key))
                    }
                };
                let error = load(None, &[], &[&flag]).expect_err(&flag);
                let text = error.to_string();
                assert!(text.contains(&key) && text.contains("flag --set"), "{flag}: {text}");
                if let ConfigError::OutOfRange { error, .. } = error {
                    assert_eq!(error.allowed, option.allowed.to_string(), "{flag}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 80, "only {tried} values were tried");
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_defaults() {
    let (_folder, path) =
        file("[server]\nthreads = 3\ndrain = \"5s\"\n[cache]\nmemory = \"2GiB\"\n");
    let variables = [("SEEN_SERVER__DRAIN", "6s"), ("SEEN_CACHE__MEMORY", "3GiB")];
    let effective = load(Some(&path), &variables, &["cache.memory=4GiB"]).expect("all in range");
    let config = &effective.config;
    assert_eq!(config.server.threads, 3);
    assert_eq!(config.server.drain, Duration::from_secs(6));
    assert_eq!(config.cache.memory, 4 << 30);
    assert_eq!(config.feed.stale_after, Duration::from_secs(5));
    assert_eq!(origin(&effective, "server.threads"), Origin::File(path));
    let variable = Origin::Variable("SEEN_SERVER__DRAIN".to_owned());
    assert_eq!(origin(&effective, "server.drain"), variable);
    assert_eq!(origin(&effective, "cache.memory"), Origin::Flag);
    assert_eq!(origin(&effective, "feed.stale_after"), Origin::Default);
    let json = effective.json();
    assert_eq!(json["cache.memory"]["value"], "4GiB");
    assert_eq!(json["cache.memory"]["origin"], "flag --set");
    assert!(effective.table().lines().any(|line| {
        line.split_whitespace().eq(["server.drain", "6s", "environment", "SEEN_SERVER__DRAIN"])
    }));
}

#[test]
fn namespaces_are_replaced_as_a_whole_and_numbered_by_their_order() {
    let text = "[[namespace]]\nname = \"a\"\nretention = \"48h\"\nbucket = \"30m\"\n\
                [[namespace]]\nname = \"b\"\nnewest_max = 7\ntime_rule = \"last\"\ntime_index = true\n";
    let (_folder, path) = file(text);
    let effective = load(Some(&path), &[], &[]).expect("all in range");
    let [a, b] = effective.config.namespaces().try_into().expect("two namespaces");
    let kept = a.retention.expect("a retention");
    assert_eq!((a.id.get(), kept.span_ms, kept.bucket_ms), (0, 48 * 3_600_000, 1_800_000));
    assert_eq!((b.id.get(), b.name.as_str(), b.newest_max, b.time_index), (1, "b", Some(7), true));
    assert_eq!(b.time_rule, seen_filter::TimeRule::Last);
    assert_eq!(origin(&effective, "namespace.0.retention"), Origin::File(path));
    assert_eq!(origin(&effective, "namespace.1.false_positive_rate"), Origin::Default);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    let cases = [
        ("server.lisen=127.0.0.1:1", "server.lisen", "server.listen"),
        ("serve.listen=127.0.0.1:1", "serve", "server"),
        ("feed.memory=1GiB", "feed.memory", "cache.memory"),
        (
            "namespace=[{name=\"x\", retension=\"48h\"}]",
            "namespace.0.retension",
            "namespace.retention",
        ),
    ];
    for (flag, key, suggestion) in cases {
        let text = refusal(None, &[], &[flag]);
        let expected = format!("unknown key {key} (from flag --set), did you mean {suggestion}?");
        assert!(text.starts_with(&expected), "{text}");
    }
    let text = refusal(None, &[("SEEN_SERVER__LISTENN", "127.0.0.1:1")], &[]);
    assert!(text.contains("environment SEEN_SERVER__LISTENN"), "{text}");
    let (_folder, path) = file("[limits]\nseen_smple = 0.5\n");
    let text = refusal(Some(&path), &[], &[]);
    assert!(text.contains("test.toml") && text.contains("limits.seen_sample"), "{text}");
    assert!(!refusal(None, &[], &["server.qqqqqqqqqqqqqq=1"]).contains("did you mean"));
}

#[test]
fn variables_that_an_orchestrator_invents_are_none_of_ours() {
    let invented = [
        ("SEEN_SERVICE_HOST", "10.0.0.1"),
        ("SEEN_PORT_7420_TCP", "tcp://10.0.0.1:7420"),
        ("SEEN_CONFIG", "elsewhere.toml"),
        ("SEENX__Y", "1"),
    ];
    let effective = load(None, &invented, &[]).expect("they are not looked at");
    assert_eq!(effective.config, Config::default());
}

#[test]
fn what_cannot_be_used_says_where_it_stands() {
    assert!(refusal(Some(Path::new("no/such.toml")), &[], &[]).contains("no/such.toml"));
    let (_folder, path) = file("[server\n");
    assert!(refusal(Some(&path), &[], &[]).contains("test.toml"));
    let (_folder, path) = file("[server]\nthreads = \"many\"\n");
    let text = refusal(Some(&path), &[], &[]);
    assert!(text.contains("server.threads") && text.contains("test.toml"), "{text}");
    let cases = [
        ("server.threads", "write key=value"),
        ("server.drain=30", "server.drain"),
        ("server=5", "server"),
        ("=5", "flag --set"),
        ("namespace=[]", "1 to 64"),
        ("namespace=[{name=\"Reads\"}]", "namespace.0.name = Reads"),
        ("namespace=[{name=\"a\"},{name=\"a\"}]", "namespace.1.name = a"),
        ("namespace=[{name=\"a\",retention=\"1h\",bucket=\"2h\"}]", "namespace.0.retention"),
        ("server.admin_listen=127.0.0.1:7420", "server.listen's"),
        ("log.level=loud=1=2", "log.level"),
        ("log.level=inof", "\"inof\" is no level"),
        ("storage.kind=tape", "storage.kind"),
    ];
    for (flag, part) in cases {
        let text = refusal(None, &[], &[flag]);
        assert!(text.contains(part), "{flag}: {text}");
    }
}

#[test]
fn keys_are_unique_and_ports_lie_below_the_ephemeral_ones() {
    let mut keys = BTreeSet::new();
    for section in &SECTIONS {
        for option in section.options {
            assert!(keys.insert((section.name, option.key)));
        }
    }
    let server = Config::default().server;
    for address in [server.listen, server.admin_listen, server.http_listen] {
        assert!(address.port() < 32_768 && address.ip().is_loopback(), "{address}");
    }
}

#[test]
fn a_password_is_text_as_it_stands_and_never_shown() {
    for password in ["0123", "true", "[1, 2]", "pass=word"] {
        let flag = format!("mysql.password={password}");
        for (variables, flags) in [
            (vec![("SEEN_MYSQL__PASSWORD", password)], Vec::new()),
            (Vec::new(), vec![flag.as_str()]),
        ] {
            let effective = load(None, &variables, &flags).expect("a configuration");
            assert_eq!(effective.config.mysql.password.reveal(), password);
            let shown = [
                effective.table(),
                effective.json().to_string(),
                format!("{:?}", effective.config),
            ];
            for text in shown {
                assert!(!text.contains(password) || password == "true", "{text}");
                assert!(text.contains("***"), "{text}");
            }
        }
    }
}

#[test]
fn servers_that_cannot_be_addresses_are_named() {
    for (flag, named) in [
        ("mysql.servers=db:port", "mysql.servers"),
        ("mysql.servers=", "mysql.servers"),
        ("mysql.witnesses=a b", "mysql.witnesses"),
        ("mysql.database=a`b", "mysql.database"),
        ("mysql.shards=3", "mysql.shards"),
        ("mysql.servers=a;b", "mysql.servers"),
        ("mysql.servers=a,b;", "mysql.servers"),
    ] {
        let refused = refusal(None, &[], &[flag]);
        assert!(refused.contains(named), "{refused}");
    }
    let both = ["mysql.password=x", "mysql.password_file=/x"];
    assert!(refusal(None, &[], &both).contains("mysql.password_file"));
}

#[test]
fn a_server_has_one_vote_in_its_group() {
    for (flags, named) in [
        (["mysql.servers=a,b:3306,a:3306", "mysql.witnesses="], "a:3306 is there twice"),
        (["mysql.servers=a,b", "mysql.witnesses=c,b:3306"], "b:3306 is there twice"),
        (["mysql.servers=a,b", "mysql.witnesses=c,c"], "mysql.witnesses"),
    ] {
        let refused = refusal(None, &[], &flags);
        assert!(refused.contains(named), "{refused}");
    }
}

#[test]
fn names_of_schemas_fit() {
    let long = "x".repeat(62);
    let refused = refusal(None, &[], &["mysql.shards=16", &format!("mysql.database={long}")]);
    for named in ["mysql.database", &long, "at most 61 characters", "allow 64"] {
        assert!(refused.contains(named), "{refused}");
    }
}

#[test]
fn files_for_tls_need_tls() {
    for (flags, named) in [
        (vec!["mysql.tls_ca=/ca"], ["mysql.tls_ca", "mysql.tls = \"off\""]),
        (vec!["mysql.tls_cert=/c", "mysql.tls_key=/k"], ["mysql.tls_cert", "\"required\""]),
        (vec!["mysql.tls=required", "mysql.tls_cert=/c"], ["mysql.tls_cert", "mysql.tls_key"]),
        (vec!["mysql.tls=required", "mysql.tls_key=/k"], ["mysql.tls_key", "mysql.tls_cert"]),
    ] {
        let refused = refusal(None, &[], &flags);
        assert!(named.iter().all(|named| refused.contains(named)), "{refused}");
    }
}
