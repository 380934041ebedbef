//! The objects that an overlay comes to, and how they find each other.

use std::collections::BTreeMap;

use serde_json::Value;

/// Labels, or what a selector asks of them.
pub type Labels = BTreeMap<String, String>;

/// All objects of an overlay.
pub struct Objects(pub Vec<Value>);

/// What runs: a workload's template.
pub struct Pod<'a> {
    /// Its workload, as in `StatefulSet/seen`.
    pub name: String,
    /// The workload.
    pub workload: &'a Value,
    /// The template's labels.
    pub labels: Labels,
    /// The template's `spec`.
    pub spec: &'a Value,
}

impl Objects {
    /// Reads what kustomize printed.
    pub fn parse(rendered: &str) -> Self {
        Self(serde_saphyr::from_multiple(rendered).expect("YAML"))
    }

    /// Those of one kind.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The one of this kind and name.
    pub fn named(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// What runs.
    pub fn pods(&self) -> Vec<Pod<'_>> {
        let workloads = ["Deployment", "StatefulSet", "Job"].into_iter();
        let pod = |workload: &'static str| {
            self.of_kind(workload).map(move |object| {
                let template = &object["spec"]["template"];
                Pod {
                    name: format!("{workload}/{}", name(object)),
                    workload: object,
                    labels: labels(&template["metadata"]["labels"]),
                    spec: &template["spec"],
                }
            })
        };
        workloads.flat_map(pod).collect()
    }

    /// The text of a ConfigMap's entry.
    pub fn file(&self, map: &str, key: &str) -> Option<&str> {
        self.named("ConfigMap", map)?["data"][key].as_str()
    }
}

impl Pod<'_> {
    /// All containers, those that come first among them.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        list(&self.spec["initContainers"]).iter().chain(list(&self.spec["containers"]))
    }

    /// The container that stays.
    pub fn main(&self) -> &Value {
        &self.spec["containers"][0]
    }

    /// What part it plays: proxy, replica, server.
    pub fn component(&self) -> &str {
        self.labels.get("app.kubernetes.io/component").map_or("", String::as_str)
    }

    /// The number of the port with this name, or of the port with this number.
    pub fn port(&self, wanted: &Value) -> Option<u64> {
        let ports = list(&self.main()["ports"]).iter();
        let mut found = ports.filter(|port| {
            port["name"] == *wanted || (wanted.is_u64() && port["containerPort"] == *wanted)
        });
        found.next()?["containerPort"].as_u64()
    }

    /// Where a file that is mounted comes from: the ConfigMap's or Secret's name, and the key.
    pub fn source_of(&self, container: &Value, path: &str) -> Option<(String, String)> {
        let (folder, file) = path.rsplit_once('/')?;
        let mounts = list(&container["volumeMounts"]);
        let volume = &mounts.iter().find(|mount| mount["mountPath"] == folder)?["name"];
        let volume = list(&self.spec["volumes"]).iter().find(|one| one["name"] == *volume)?;
        let (map, secret) = (&volume["configMap"]["name"], &volume["secret"]["secretName"]);
        let (of, items) = match map.as_str() {
            Some(map) => (map, &volume["configMap"]["items"]),
            None => (secret.as_str()?, &volume["secret"]["items"]),
        };
        let item = list(items).iter().find(|item| item["path"] == file);
        let key = match (items.is_null(), item) {
            (true, _) => file,
            (false, item) => item?["key"].as_str()?,
        };
        Some((of.to_owned(), key.to_owned()))
    }

    /// The configuration that a container is started with: its path, and its text.
    pub fn config<'a>(&self, objects: &'a Objects, container: &Value) -> Option<(String, &'a str)> {
        let args: Vec<&str> = list(&container["args"]).iter().filter_map(Value::as_str).collect();
        let joined = args.iter().find_map(|arg| arg.strip_prefix("--config="));
        let apart = args.windows(2).find(|two| two[0] == "--config").map(|two| two[1]);
        let path = joined.or(apart)?;
        let (map, key) = self.source_of(container, path)?;
        Some((path.to_owned(), objects.file(&map, &key)?))
    }
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// A list, empty where there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Labels, or the `matchLabels` of a selector.
pub fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Whether a label selector takes these labels; an empty one takes all.
pub fn selects(selector: &Value, all: &Labels) -> bool {
    let expressions = list(&selector["matchExpressions"]).iter();
    let mut expressions = expressions.map(|one| {
        assert_eq!(one["operator"], "In", "the only operator in use");
        let value = all.get(one["key"].as_str().unwrap_or_default());
        value.is_some_and(|value| list(&one["values"]).iter().any(|one| one == value))
    });
    contains(all, &labels(&selector["matchLabels"])) && expressions.all(|fits| fits)
}

/// Whether labels have all of these.
pub fn contains(all: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| all.get(key) == Some(value))
}
