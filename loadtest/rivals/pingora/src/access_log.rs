//! The access log: a line for each request, handed to a thread that writes what has come since the last time.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Write as _},
    sync::mpsc::{self, Receiver, SyncSender},
};

use serde::Serialize;

/// Lines that may wait for the thread; further ones are dropped.
const WAITING: usize = 65_536;

/// The form of a line.
#[derive(Clone, Copy)]
pub enum Format {
    /// Plain text.
    Text,
    /// A JSON object.
    Json,
}

/// The log.
pub struct AccessLog {
    format: Format,
    lines: SyncSender<String>,
}

/// The entry of a request.
#[derive(Serialize)]
pub struct Entry<'a> {
    pub client: String,
    pub method: &'a str,
    pub target: &'a str,
    pub status: u16,
    pub ms: f64,
    pub legs: Vec<Leg<'a>>,
}

/// What became of one copy.
#[derive(Serialize)]
pub struct Leg<'a> {
    pub endpoint: &'a str,
    pub status: Option<u16>,
    pub ms: f64,
}

/// An entry with its time.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

impl AccessLog {
    /// Starts the thread.
    pub fn start(format: Format, file: &str) -> io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let mut out = BufWriter::with_capacity(64 * 1024, File::create(file)?);
        std::thread::spawn(move || {
            if let Err(error) = write(&waiting, &mut out) {
                eprintln!("cannot write the access log: {error}");
            }
        });
        Ok(Self { format, lines })
    }

    /// Writes an entry; never waits.
    pub fn write(&self, entry: &Entry<'_>) {
        let time = format!("{:.3}", jiff::Timestamp::now());
        let line = match self.format {
            Format::Json => serde_json::to_string(&Line { time, entry }).unwrap_or_default(),
            Format::Text => text(&time, entry),
        };
        // A line without room is lost.
        let _ = self.lines.try_send(line);
    }
}

fn text(time: &str, entry: &Entry<'_>) -> String {
    let Entry { client, method, target, status, ms, legs } = entry;
    let mut line = format!("{time} {client} \"{method} {target}\" {status} {ms:.3}ms");
    for Leg { endpoint, status, ms } in legs {
        // Writing to a string cannot fail.
        let _ = write!(line, " {endpoint}={}:{ms:.3}ms", status.unwrap_or(0));
    }
    line
}

fn write(lines: &Receiver<String>, out: &mut BufWriter<File>) -> io::Result<()> {
    while let Ok(first) = lines.recv() {
        writeln!(out, "{first}")?;
        for line in lines.try_iter() {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
    }
    Ok(())
}
