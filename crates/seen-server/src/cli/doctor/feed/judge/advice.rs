//! The producers' options, as they are to be written.

use seen_dialect::{Dialect, FollowedTable, TableRole};

use super::Wanted;

/// The tables with their columns of users.
fn tables(wanted: &Wanted) -> impl Iterator<Item = (&FollowedTable, &str)> {
    wanted.tables.iter().map(|table| match &table.role {
        TableRole::Control => (table, "user_id"),
        TableRole::History { user, .. } => (table, user.as_str()),
    })
}

/// What makes a producer place rows by their user.
pub(super) fn key(wanted: &Wanted, dialect: Option<Dialect>, partitions: u16) -> String {
    let each = |form: &dyn Fn(&FollowedTable, &str) -> String, by: &str| {
        tables(wanted).map(|(table, user)| form(table, user)).collect::<Vec<_>>().join(by)
    };
    let named = |table: &FollowedTable| format!("{}.{}", table.database, table.table);
    match dialect {
        Some(Dialect::CanalFlat) => format!(
            "Canal: canal.mq.partitionsNum={partitions}, canal.mq.partitionHash={}; \
             [kafka] partitioner = \"canal\"",
            each(&|table, user| format!("{}:{user}", named(table)), ",")
        ),
        Some(Dialect::Maxwell) => format!(
            "Maxwell: producer_partition_by=column, producer_partition_columns={}, \
             producer_partition_by_fallback=database, kafka_partition_hash=murmur3; \
             [kafka] partitioner = \"maxwell\"",
            tables(wanted).map(|(_, user)| user).next().unwrap_or("user_id")
        ),
        Some(Dialect::TidbBinlog) => {
            "the drainer knows partition 0 only: have seen relay write a topic of more".to_owned()
        }
        Some(Dialect::Seen) => {
            "[kafka] partitioner = \"slots\"; the number of partitions must be that of seen relay"
                .to_owned()
        }
        Some(dialect) if is_ticdc(dialect) => format!(
            "TiCDC: [sink] dispatchers = [{{ matcher = [{}], partition = \"columns\", columns = \
             [\"user_id\"] }}]; its hash is not computed here: [kafka] partitioner = \"unknown\", or \
             seen relay",
            each(&|table, _| format!("\"{}\"", named(table)), ", ")
        ),
        _ => format!(
            "Debezium: message.key.columns={}",
            each(&|table, user| format!("{}:{user}", named(table)), ";")
        ),
    }
}

/// True for TiCDC's formats.
pub(super) fn is_ticdc(dialect: Dialect) -> bool {
    matches!(
        dialect,
        Dialect::CanalJson
            | Dialect::OpenProtocol
            | Dialect::Simple
            | Dialect::TicdcDebezium
            | Dialect::TicdcMaxwell
            | Dialect::Avro
    )
}

/// What brings the control table's rows into the topic of the histories.
pub(super) fn one_topic(wanted: &Wanted, dialect: Option<Dialect>) -> String {
    let escaped = |table: &FollowedTable| {
        format!("{}\\.{}", table.database.replace('.', "\\."), table.table.replace('.', "\\."))
    };
    let all: Vec<String> = wanted.tables.iter().map(escaped).collect();
    let plain: Vec<String> =
        wanted.tables.iter().map(|table| format!("{}.{}", table.database, table.table)).collect();
    match dialect {
        Some(Dialect::CanalFlat) => format!(
            "Canal: canal.mq.topic={} and no dynamicTopic, canal.instance.filter.regex={}",
            wanted.topic,
            all.join(",").replace('\\', "\\\\")
        ),
        Some(Dialect::Maxwell) => format!(
            "Maxwell: kafka_topic={}, without %{{database}} or %{{table}}; filter=include: {}",
            wanted.topic,
            plain.join(", include: ")
        ),
        Some(Dialect::Seen) => {
            "seen relay reads it with the histories: look at its source".to_owned()
        }
        _ => format!(
            "Debezium: table.include.list={}, transforms=route, \
             transforms.route.type=org.apache.kafka.connect.transforms.RegexRouter, \
             transforms.route.regex=.*\\.({}), transforms.route.replacement={}",
            plain.join(","),
            all.join("|"),
            wanted.topic
        ),
    }
}

/// What sends numbers that are exact.
pub(super) fn exact_numbers(dialect: Option<Dialect>) -> &'static str {
    match dialect {
        Some(Dialect::Debezium | Dialect::DebeziumUnwrapped) | None => {
            "Debezium: bigint.unsigned.handling.mode=long, and no decimal.handling.mode=double or cast \
             on these columns (decimal.format=NUMERIC only with precise)"
        }
        Some(Dialect::Avro) => "TiCDC: avro-bigint-unsigned-handling-mode=string in the sink's URI",
        Some(_) => {
            "send ids as whole numbers or texts: no step in between may read them as doubles"
        }
    }
}

/// The command that sets a topic.
pub(super) fn set(wanted: &Wanted, setting: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} \
         --add-config {setting}",
        wanted.brokers, wanted.topic
    )
}

/// How a record is looked at.
pub(super) fn look_at(wanted: &Wanted, partition: i32, offset: i64) -> String {
    let table = wanted.tables.first();
    let table = table.map(|table| format!("{}.{}", table.database, table.table));
    format!(
        "look at it: seen feed replay --partition {partition} --from {offset} --limit 1 --base64 > \
         record.jsonl; seen feed decode --base64 --table {} record.jsonl",
        table.unwrap_or_default()
    )
}
