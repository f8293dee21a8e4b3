//! The certificates by which an API server is verified: from a file, or from a URL whose server is verified in turn.

use std::{path::Path, time::Duration};

use http_body_util::{BodyExt as _, Limited};
use hyper::{Request, StatusCode, Uri};
use kube::client::Body;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::{Instant, timeout};
use tower::ServiceExt as _;
use tracing::warn;

use super::{
    access::Url,
    files::{FileError, FileReader},
    make,
    proxy::Environment,
    read::ClientSettings,
};

/// The total time-out for fetching certificates.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest list of certificates, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Certificates (DER) that were fetched from a URL, and when.
#[derive(Debug)]
pub(super) struct FetchedCertificates {
    certificates: Vec<Vec<u8>>,
    at: Instant,
}

/// Why there are no certificates to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("the certificates: {0}")]
    File(#[from] FileError),
    /// They cannot be fetched.
    #[error("cannot fetch the certificates at {url}: {problem}")]
    Fetch {
        /// The URL.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The content is not a list of certificates.
    #[error("{origin} has no list of certificates in PEM form: {problem}")]
    Pem {
        /// The file or the URL.
        origin: String,
        /// What is wrong.
        problem: String,
    },
}

/// The certificates in a file.
pub(super) fn read(path: &Path, files: FileReader) -> Result<Vec<Vec<u8>>, TrustError> {
    parse(&path.display().to_string(), &files.read(path)?)
}

/// The certificates from a URL. Those fetched within `refetch` are reused, and older ones if they cannot be fetched now.
pub(super) async fn fetched(
    url: &Url,
    vouched_by: Option<&Path>,
    environment: &Environment,
    last: &mut Option<FetchedCertificates>,
    refetch: Duration,
) -> Result<Vec<Vec<u8>>, TrustError> {
    if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < refetch) {
        return Ok(last.certificates.clone());
    }
    let certificates = match (fetch(url, vouched_by, environment).await, last.as_ref()) {
        (Ok(certificates), _) => certificates,
        (Err(error), Some(last)) => {
            warn!("{error}; the certificates fetched before stay in use");
            last.certificates.clone()
        }
        (Err(error), None) => return Err(error),
    };
    *last = Some(FetchedCertificates { certificates: certificates.clone(), at: Instant::now() });
    Ok(certificates)
}

/// Fetches them now. No redirection is followed: it could lead to a server that is not verified.
async fn fetch(url: &Url, vouched_by: Option<&Path>, environment: &Environment) -> Result<Vec<Vec<u8>>, TrustError> {
    let failed = |problem: String| TrustError::Fetch { url: url.to_string(), problem };
    let mut parts = url.uri().clone().into_parts();
    let path = parts.path_and_query.replace("/".parse().expect("this is a path"));
    let server = Uri::from_parts(parts).expect("only the path of a URL has changed");
    let mut settings = ClientSettings::new(server.into());
    settings.proxy = environment.proxy(settings.server.uri(), None).map_err(|error| failed(error.to_string()))?;
    settings.roots = vouched_by.map(|path| read(path, FileReader { again: false })).transpose()?;
    let path = path.as_ref().map_or("/", |path| path.as_str());
    let request = Request::get(path).header("accept", "*/*").body(Body::empty());
    let request = request.expect("a path of a URL makes a request");
    let answer = async {
        let sender = make::sender(&settings, None).map_err(|e| e.to_string())?;
        let response = sender.oneshot(request).await.map_err(|e| explain(e.as_ref()))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        body.map(|body| body.to_bytes()).map_err(|e| explain(e.as_ref()))
    };
    let text =
        timeout(FETCH_TIMEOUT, answer).await.map_err(|_| failed(format!("no answer within {FETCH_TIMEOUT:?}")))?;
    parse(&url.to_string(), &text.map_err(failed)?)
}

/// Reads a list of certificates, each of which must be that of an authority.
pub(super) fn parse(origin: &str, text: &[u8]) -> Result<Vec<Vec<u8>>, TrustError> {
    let wrong = |problem: String| TrustError::Pem { origin: origin.to_owned(), problem };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|e| wrong(e.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("there is no certificate in it".into()));
    }
    for certificate in &certificates {
        RootCertStore::empty().add(certificate.clone()).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
}

fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    crate::watch::chain(error)
}
