//! `enforcer init`: a first policy and a certificate for a test, never over an existing file.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, Exit, Failure};

/// Write a first policy and a certificate for a test
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The API to protect: `http://127.0.0.1:9000`
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// The host name that clients use; any by default
    #[arg(long, value_name = "NAME", default_value = "*")]
    host: String,
    /// Where clients connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// An interface whose traffic the kernel half filters; none by default
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
}

impl Init {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let file = context.policy_file();
        let upstream = upstream_address(&self.upstream)?;
        let host_is_good = self.host == "*"
            || self.host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        if !host_is_good || self.host.is_empty() {
            return Err(Failure::usage(format!("`{}` is not a host name", self.host))
                .hint("write it as `api.example.com`, without scheme and port"));
        }
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        let certificate = folder.join("tls/cert.pem");
        let key = folder.join("tls/key.pem");
        for path in [&file, &certificate, &key] {
            if path.exists() {
                return Err(Failure::failed(format!(
                    "{} exists and is left alone",
                    path.display()
                ))
                .hint("edit it, or name another with `--policy FILE`"));
            }
        }
        let text = self.policy(context, &file, upstream);
        let (certificate_pem, key_pem) = self_signed(&self.host)?;
        create(&certificate, 0o644, &certificate_pem)?;
        create(&key, 0o600, &key_pem)?;
        create(&file, 0o644, &text)?;
        super::policy::load(&file)?;

        let named = if context.places.is_default_policy(&file) {
            String::new()
        } else {
            format!(" --policy {}", file.display())
        };
        let lines = [
            format!("wrote {}", file.display()),
            format!("  a certificate for tests: {}", certificate.display()),
            "next:".to_owned(),
            format!("  enforcer{named} doctor"),
            format!("  enforcer{named} run"),
            format!("  enforcer{named} keys issue --name me --role reader"),
            format!(
                "  curl --cacert {} -H 'Authorization: Bearer KEY' https://localhost:{}/",
                certificate.display(),
                self.listen.port(),
            ),
        ];
        let answer = serde_json::json!({ "policy": file, "certificate": certificate, "key": key });
        context.printer.item(&answer, &lines)?;
        Ok(Exit::Done)
    }

    fn policy(&self, context: &Context, file: &Path, upstream: SocketAddr) -> String {
        let Self { host, listen, .. } = self;
        // Beside a policy of its own place, state and socket have their own place too.
        let (state, socket) = if context.places.is_default_policy(file) {
            (context.places.state.clone(), context.places.socket.clone())
        } else {
            (PathBuf::from("state"), PathBuf::from("admin.sock"))
        };
        let (state, socket) = (state.display(), socket.display());
        let names: Vec<_> = self.interfaces.iter().map(|name| format!("{name:?}")).collect();
        let kernel = if names.is_empty() {
            "# The kernel half is off. To drop blocked addresses before the host's network stack:\n\
             # [kernel]\n# interfaces = [\"eth0\"]\n# mode       = \"enforce\"\n"
                .to_owned()
        } else {
            let names = names.join(", ");
            format!("[kernel]\ninterfaces = [{names}]\nmode       = \"enforce\"\n")
        };
        format!(
            "# The policy of enforcer: who may do what, and what happens to those who try otherwise.\n\
             # `enforcer policy check` reads it, `enforcer policy apply` puts a change in force.\n\
             version = 1\n\n\
             [agent]\nstate  = {state:?}\nsocket = {socket:?}\n\n\
             [listen.public]\naddress = \"{listen}\"\n\
             tls     = {{ certificate = \"tls/cert.pem\", key = \"tls/key.pem\" }}\n\n\
             {kernel}\n\
             [role]\nreader = {{ from = [\"key\"] }}\nwriter = {{ includes = [\"reader\"], from = [\"key\"] }}\n\n\
             [limit]\nper_key = {{ by = \"key\", rate = \"100/s\", burst = 200 }}\n\
             per_ip  = {{ by = \"ip\",  rate = \"200/s\", burst = 400 }}\n\n\
             [upstream.api]\nhosts = [\"{upstream}\"]\n\n\
             # Readers may read everything, writers may also change it. Whoever has no key gets 401.\n\
             [[route]]\nname     = \"api\"\nmatch    = \"{host}/{{**}}\"\nupstream = \"api\"\n\
             limits   = [\"per_key\", \"per_ip\"]\n\n\
             \x20 [[route.allow]]\n  method = [\"GET\", \"HEAD\", \"OPTIONS\"]\n  role   = \"reader\"\n\n\
             \x20 [[route.allow]]\n  method = [\"POST\", \"PUT\", \"PATCH\", \"DELETE\"]\n  role   = \"writer\"\n\n\
             # Ten refused keys in ten seconds from one address: nobody mistypes that fast. `observe`\n\
             # only records what it would have blocked; change it to `auto` once you trust it.\n\
             [[rule]]\nid       = \"key-guessing\"\nfailures = 10\nwithin   = \"10s\"\n\
             respond  = {{ action = \"block\", ttl = \"15m\" }}\nmode     = \"observe\"\n",
        )
    }
}

fn upstream_address(url: &str) -> Result<SocketAddr, Failure> {
    let refused = || {
        Failure::usage(format!("`{url}` is not an upstream"))
            .hint("write it as `http://127.0.0.1:9000`: plain HTTP, a host and a port")
    };
    let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if authority.contains('/') {
        return Err(refused());
    }
    let found = authority.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(refused)
}

fn self_signed(host: &str) -> Result<(String, String), Failure> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if host != "*" {
        names.insert(0, host.to_owned());
    }
    let made =
        rcgen::generate_simple_self_signed(names).map_err(|error| Failure::because(&error))?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

fn create(path: &Path, mode: u32, content: &str) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(cannot)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)
}
