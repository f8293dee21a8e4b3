//! Endpoints that answer with their names, exported files that list them, and a folder that consumers watch.

use std::{
    fs,
    path::{Path, PathBuf},
};

use export::{
    backend::{Backend, Members, Model, Names},
    render::{File, Format, FormatOptions, Rendered},
};
use tempfile::TempDir;
use testkit::{
    consumers::{
        Consumer,
        traffic::{get, who},
    },
    origin::{Origin, Reply},
};

use crate::fixture::{Service, catalog, service};

/// An endpoint that answers with its name.
pub(crate) fn origin(name: &str) -> Origin {
    Origin::start(Reply::ok(name))
}

/// The addresses of these endpoints, in the notation of the fixture.
pub(crate) fn addresses(origins: &[&Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.address().to_string()).collect()
}

/// A Service's port called `http` with these endpoints.
pub(crate) fn with(service: Service, origins: &[&Origin]) -> Service {
    let addresses = addresses(origins);
    service.http(&addresses.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The backends of these Services, named after their ports: endpoints on one machine have different numbers.
fn backends(members: Members, services: impl IntoIterator<Item = Service>) -> Vec<Backend> {
    let names = "{service}-{port_name}".parse().expect("a template");
    Model { names, members, ..Model::default() }.backends(&catalog(services), &mut Names::default())
}

/// A file of this format for each of these successive states of a Service, with default names, as one process writes them.
pub(crate) fn moments(format: &str, members: Members, moments: &[Service]) -> Vec<Rendered> {
    let format = Format::parse(format, &FormatOptions::default()).expect("a format");
    let (model, mut names) = (Model { members, ..Model::default() }, Names::default());
    let mut backends = |service: &Service| model.backends(&catalog([service.clone()]), &mut names);
    moments.iter().map(|service| format.render(&backends(service)).expect("it can be rendered")).collect()
}

/// These Services rendered in a format.
pub(crate) fn rendered(format: &str, options: &FormatOptions, services: impl IntoIterator<Item = Service>) -> Rendered {
    rendered_with(format, Members::Ready, options, services)
}

/// The same with these members.
fn rendered_with(
    format: &str,
    members: Members,
    options: &FormatOptions,
    services: impl IntoIterator<Item = Service>,
) -> Rendered {
    let format = Format::parse(format, options).expect("a format");
    format.render(&backends(members, services)).expect("it can be rendered")
}

/// Checks that a consumer drains an endpoint that terminates: it gets no request while another endpoint is ready, and every one when
/// it is alone. `start` starts the consumer with a file of this format, in which the backend is called `web-http`.
pub(crate) async fn check_draining(format: &str, start: impl AsyncFn(&Path) -> Consumer) {
    let (new, old) = (origin("new"), origin("old"));
    let folder = Folder::new();
    let terminating = format!("{} ending", old.address());
    let both = service("shop/web").http(&[&new.address().to_string(), &terminating]);
    let alone = service("shop/web").http(&[&terminating]);
    for (service, expected) in [(both, "new"), (alone, "old")] {
        folder.write("backends", &rendered_with(format, Members::Serving, &FormatOptions::default(), [service]));
        let consumer = start(&folder.file("backends")).await;
        for _ in 0..6 {
            assert_eq!(who(consumer.address(), &get("shop.example", "/", "")).await, expected);
        }
    }
}

/// Addresses without a listener, in both families.
pub(crate) const UNUSED_ADDRESSES: [&str; 2] = ["127.0.0.1:9", "[::1]:9"];

/// A folder whose files are replaced atomically: written under another name, then renamed.
pub(crate) struct Folder {
    directory: TempDir,
    /// Beside it and not in it: some consumers read every file of the folder that they watch.
    spare: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder can be made");
        Self { directory: folder(), spare: folder() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces or makes one file.
    pub(crate) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let (whole, place) = (self.spare.path().join("file"), self.file(name));
        fs::write(&whole, bytes).expect("a temporary file can be written");
        fs::create_dir_all(place.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::rename(&whole, &place).expect("a file can be renamed within one file system");
        place
    }

    /// Writes rendered files in their order, then removes files that are no longer among them. A file without a name gets this one.
    pub(crate) fn write(&self, name: &str, rendered: &Rendered) {
        let place = |file: &File| if file.name.is_empty() { name.to_owned() } else { file.name.clone() };
        // Unchanged files are left alone.
        for file in &rendered.files {
            let there = fs::read(self.file(&place(file)));
            if there.ok().as_deref() != Some(&*file.bytes) {
                self.put(&place(file), &file.bytes);
            }
        }
        let kept: Vec<PathBuf> = rendered.files.iter().map(|file| self.file(&place(file))).collect();
        for entry in fs::read_dir(self.file("eds")).into_iter().flatten().flatten() {
            if !kept.contains(&entry.path()) {
                fs::remove_file(entry.path()).expect("a file of ours can be removed");
            }
        }
    }
}
