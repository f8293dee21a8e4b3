//! A token file that is read again when it changes: new contents apply as a whole, and the last good ones stay in use if the file
//! becomes invalid.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use runtime::file_watch::{self, FileEvent, FileWatch};

use super::{InvalidTokens, Tokens};
use crate::{
    identity::Identity,
    metrics::{self, TOKEN_FILE_READS},
};

/// A token file and its current tokens.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    current: ArcSwap<Tokens>,
    /// Whether the last reading failed, which was logged.
    has_failed: AtomicBool,
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableFile {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Its content is not a list of tokens.
    #[error("{}: {error}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: InvalidTokens,
    },
}

// === impl TokenFile ===

impl TokenFile {
    /// Reads the file for the first time. Blocks the thread.
    ///
    /// # Errors
    /// [`UnusableFile`] if it cannot be read, or is not a list of tokens.
    pub fn read(path: &Path) -> Result<Self, UnusableFile> {
        metrics::token_file_from_zero(path);
        let content =
            runtime::files::read(path).map_err(|error| UnusableFile::Unreadable { path: path.to_owned(), error })?;
        let tokens = Tokens::parse(&content)
            .map_err(|error| UnusableFile::Invalid { path: path.to_owned(), error })
            .inspect(|tokens| log_tokens(path, tokens))?;
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(tokens), has_failed: AtomicBool::new(false) })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current holder of this token.
    #[must_use]
    pub fn holder(&self, token: &str) -> Option<Identity> {
        self.current.load().holder(token).cloned()
    }

    /// The current tokens.
    #[must_use]
    pub fn current(&self) -> Arc<Tokens> {
        self.current.load_full()
    }

    /// Follows the file for ever, checking it at this interval.
    pub async fn follow(self: Arc<Self>, every: Duration) {
        let mut watch = FileWatch::with_interval(&self.path, every);
        loop {
            let event = watch.next().await;
            self.apply(event);
        }
    }

    /// Follows the file for ever, at the default interval.
    pub async fn follow_always(self: Arc<Self>) {
        self.follow(file_watch::DEFAULT_INTERVAL).await;
    }

    fn apply(&self, event: FileEvent) {
        let (result, why) = match event {
            FileEvent::Unreadable(why) => ("unreadable", why),
            FileEvent::Changed(content) => match Tokens::parse(&content) {
                Ok(tokens) => {
                    // After a failure it is news that the same tokens can be read.
                    let is_over = self.has_failed.swap(false, Ordering::Relaxed);
                    if is_over || tokens != **self.current.load() {
                        log_tokens(&self.path, &tokens);
                        self.current.store(Arc::new(tokens));
                    }
                    return metrics::count(TOKEN_FILE_READS, &self.path, "ok");
                }
                Err(error) => ("invalid", format!("{}: {error}", self.path.display())),
            },
        };
        metrics::count(TOKEN_FILE_READS, &self.path, result);
        self.has_failed.store(true, Ordering::Relaxed);
        tracing::warn!("the token file cannot be used, the last good tokens stay in use: {why}");
    }
}

/// Logs the tokens that apply from now on.
fn log_tokens(path: &Path, tokens: &Tokens) {
    tracing::info!(file = %path.display(), tokens = tokens.holders().len(), "token file read");
    if !tokens.short().is_empty() {
        let names: Vec<&str> = tokens.short().iter().map(Identity::as_str).collect();
        tracing::warn!(
            file = %path.display(),
            "short enough to be guessed: {}; make longer ones, for instance with openssl rand -hex 32",
            names.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_edit_counts_as_a_whole_and_a_broken_one_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tokens");
        let write = |content: &str| {
            std::fs::write(dir.path().join("new"), content).expect("writes");
            std::fs::rename(dir.path().join("new"), &path).expect("renames");
        };
        assert!(TokenFile::read(&path).expect_err("not there").to_string().contains("cannot read"));
        write("ci:first-token-1\n");
        let file = TokenFile::read(&path).expect("readable");
        let holds = |token: &str| file.holder(token).map(|holder| holder.to_string());
        let mut watch = FileWatch::with_interval(&path, Duration::from_millis(5));
        file.apply(watch.next().await);
        assert_eq!(holds("first-token-1"), Some("token:ci".into()));

        write("ci:second-token\nops:third-token\n");
        file.apply(watch.next().await);
        assert_eq!((holds("first-token-1"), holds("third-token")), (None, Some("token:ops".into())));

        for broken in ["ci:fourth-token\nops\n", "", "ci:fourth-token\nci:fifth-token\n"] {
            write(broken);
            file.apply(watch.next().await);
            assert_eq!((holds("fourth-token"), holds("second-token")), (None, Some("token:ci".into())), "{broken:?}");
        }
        std::fs::remove_file(&path).expect("removes");
        file.apply(watch.next().await);
        assert_eq!(holds("second-token"), Some("token:ci".into()), "a file that is gone takes nobody's token");
        write("ci:sixth-token\n");
        file.apply(watch.next().await);
        assert_eq!((holds("second-token"), holds("sixth-token")), (None, Some("token:ci".into())));
    }
}
