//! The real kustomize and the schemas of the Kubernetes API, from `scripts/k8s-tools`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use seen_testbed::Error;

/// What `scripts/k8s-tools` calls its folder in the cache: the version is part of the name.
const IN_CACHE: &str = "seen/k8s-tools-1";
/// The oldest version of Kubernetes that has all of it (sleep as preStop), and the newest with a schema.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

/// Where they are.
pub struct Tools {
    kustomize: PathBuf,
    validate: PathBuf,
}

impl Tools {
    /// Finds them.
    pub fn find() -> Result<Self, Error> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::home_dir().unwrap_or_default().join(".cache");
        let folder = cache.unwrap_or_else(home).join(IN_CACHE);
        if !folder.join("whole").exists() {
            let how = "run scripts/k8s-tools, which makes it (half a minute)".to_owned();
            return Err(Error::Missing { what: folder.display().to_string(), how });
        }
        Ok(Self {
            kustomize: folder.join("bin/kustomize"),
            validate: folder.join("venv/bin/kubernetes-validate"),
        })
    }

    /// What an overlay of k8s/ comes to.
    pub fn render(&self, overlay: &str) -> String {
        let folder = root().join("k8s").join(overlay);
        let made = Command::new(&self.kustomize).arg("build").arg(&folder).output();
        let made = made.expect("kustomize runs");
        let said = String::from_utf8_lossy(&made.stderr);
        // Also where it merely warns, of a field that it will not know for long.
        assert!(made.status.success() && said.is_empty(), "{overlay}: {said}");
        String::from_utf8(made.stdout).expect("UTF-8")
    }

    /// What the schemas find wrong, strictly, a line for each object and version.
    pub fn invalid(&self, rendered: &Path) -> Vec<String> {
        VERSIONS.iter().flat_map(|version| self.invalid_for(rendered, version)).collect()
    }

    fn invalid_for(&self, rendered: &Path, version: &str) -> Vec<String> {
        let mut validate = Command::new(&self.validate);
        validate.args(["--strict", "--quiet", "--kubernetes-version", version]).arg(rendered);
        let looked = validate.stdin(Stdio::null()).output().expect("kubernetes-validate runs");
        // An object without a schema is a warning there, and its status says nothing of it.
        let said = [looked.stdout, looked.stderr].concat();
        let said = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(looked.status.success(), said.iter().all(|line| line.starts_with("WARN")));
        said
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
