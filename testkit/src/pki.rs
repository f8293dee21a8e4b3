//! A certificate authority, the certificates that it signs, and files of them that are swapped as Kubernetes swaps Secrets.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
    string::Ia5String,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Intermediate certificates that servers send after their own: this authority's, if another one has signed it.
    between: Vec<CertificateDer<'static>>,
}

/// The contents of a certificate to sign. The default has no names and is valid for a long time.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    sans: Vec<SanType>,
    subject: Option<String>,
    /// Seconds since 1970.
    valid: Option<(u64, u64)>,
}

/// A certificate with its chain and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain in PEM form, the certificate itself first.
    pub chain: String,
    /// The private key in PEM form.
    pub key: String,
    der: Vec<CertificateDer<'static>>,
    key_der: Vec<u8>,
}

/// A directory like that of a mounted Secret: its files are links into `..data`, which is a link that is swapped.
#[derive(Debug)]
pub struct SecretDir {
    dir: tempfile::TempDir,
    version: AtomicUsize,
}

/// The provider of cryptography of all tests.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

// === impl Wanted ===

impl Wanted {
    /// A certificate for these names: DNS names, with a `*` or without, addresses, URIs.
    ///
    /// # Panics
    /// A name is not ASCII.
    #[must_use]
    pub fn names(names: &[&str]) -> Self {
        let ascii = |name: &str| Ia5String::try_from(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let san = |name: &&str| match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI(ascii(name)),
            Err(_) => SanType::DnsName(ascii(name)),
        };
        Self { sans: names.iter().map(san).collect(), ..Self::default() }
    }

    /// With this common name in its subject.
    #[must_use]
    pub fn subject(mut self, name: &str) -> Self {
        self.subject = Some(name.to_owned());
        self
    }

    /// Makes it one that expired this long ago.
    #[must_use]
    pub fn expired(mut self, ago: Duration) -> Self {
        let end = now() - ago.as_secs();
        self.valid = Some((end - 86_400, end));
        self
    }

    /// Makes it valid for a day, this long from now.
    #[must_use]
    pub fn valid_after(mut self, time: Duration) -> Self {
        let begin = now() + time.as_secs();
        self.valid = Some((begin, begin + 86_400));
        self
    }

    /// Makes it valid for this long from now on.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid = Some((now() - 86_400, now() + time.as_secs()));
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.subject_alt_names.clone_from(&self.sans);
        params
            .distinguished_name
            .push(DnType::CommonName, self.subject.as_deref().unwrap_or("a certificate of a test"));
        if let Some((from, to)) = self.valid {
            let epoch = date_time_ymd(1970, 1, 1);
            (params.not_before, params.not_after) =
                (epoch + Duration::from_secs(from), epoch + Duration::from_secs(to));
        }
        params
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

// === impl Authority ===

impl Authority {
    /// An authority that has signed its own certificate.
    ///
    /// # Panics
    /// There is no source of random numbers.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(name), key()).expect("it can sign");
        Self { issuer, between: Vec::new() }
    }

    /// An authority between this one and the certificates that it signs.
    ///
    /// # Panics
    /// There is no source of random numbers.
    #[must_use]
    pub fn under(&self, name: &str) -> Self {
        let issuer = CertifiedIssuer::signed_by(authority(name), key(), &self.issuer).expect("it can sign");
        let between = std::iter::once(issuer.der().clone()).chain(self.between.iter().cloned()).collect();
        Self { issuer, between }
    }

    /// Its own certificate in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a certificate for these names, valid for a long time.
    ///
    /// # Panics
    /// There is no source of random numbers.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.sign(&Wanted::names(names))
    }

    /// Signs a certificate.
    ///
    /// # Panics
    /// There is no source of random numbers.
    #[must_use]
    pub fn sign(&self, wanted: &Wanted) -> Issued {
        let key = key();
        let certificate = wanted.params().signed_by(&key, &self.issuer).expect("it can sign");
        let mut der = vec![certificate.der().clone()];
        der.extend(self.between.iter().cloned());
        let chain = std::iter::once(certificate.pem()).chain((!self.between.is_empty()).then(|| self.issuer.pem()));
        Issued { chain: chain.collect(), key: key.serialize_pem(), key_der: key.serialize_der(), der }
    }

    /// Trust anchors: this authority and no other.
    ///
    /// # Panics
    /// Never: its certificate is one of an authority.
    #[must_use]
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is an authority");
        roots
    }

    /// The configuration of a client that trusts this authority, presents this certificate and offers these protocols.
    ///
    /// # Panics
    /// Never: the certificate and its key belong together.
    #[must_use]
    pub fn client(&self, certificate: Option<&Issued>, alpn: &[&str]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_root_certificates(self.roots());
        let mut config = match certificate {
            Some(own) => builder.with_client_auth_cert(own.der.clone(), own.key_der()).expect("they belong together"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// The configuration of a server that requires client certificates signed by this authority.
    ///
    /// # Panics
    /// Never: the certificate and its key belong together.
    #[must_use]
    pub fn demanding(&self, certificate: &Issued, alpn: &[&str]) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots().into(), provider());
        let verifier = verifier.build().expect("there is an authority");
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has the usual versions").with_client_cert_verifier(verifier);
        certificate.finish(builder, alpn)
    }
}

// === impl Issued ===

impl Issued {
    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key_der.clone()).expect("it is a key")
    }

    fn finish(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
        alpn: &[&str],
    ) -> ServerConfig {
        let mut config = builder.with_single_cert(self.der.clone(), self.key_der()).expect("they belong together");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// The configuration of a server that presents this certificate and speaks these protocols.
    ///
    /// # Panics
    /// Never: the certificate and its key belong together.
    #[must_use]
    pub fn server(&self, alpn: &[&str]) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        self.finish(builder.expect("the provider has the usual versions").with_no_client_auth(), alpn)
    }
}

// === impl SecretDir ===

impl SecretDir {
    /// A directory with these files.
    ///
    /// # Panics
    /// The file system is full.
    #[must_use]
    pub fn new(files: &[(&str, &str)]) -> Self {
        let secret = Self { dir: tempfile::tempdir().expect("a directory"), version: AtomicUsize::new(0) };
        secret.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), secret.path(name)).expect("links");
        }
        secret
    }

    /// A directory with a certificate, as cert-manager makes it: `tls.crt`, `tls.key` and `ca.crt`.
    #[must_use]
    pub fn of(certificate: &Issued, authority: &Authority) -> Self {
        Self::new(&Self::files(certificate, &authority.pem()))
    }

    fn files<'a>(certificate: &'a Issued, authority: &'a str) -> [(&'static str, &'a str); 3] {
        [("tls.crt", &certificate.chain), ("tls.key", &certificate.key), ("ca.crt", authority)]
    }

    /// Swaps the certificate for another one, all three files at once.
    pub fn renew(&self, certificate: &Issued, authority: &Authority) {
        self.swap(&Self::files(certificate, &authority.pem()));
    }

    /// Swaps all files at once.
    ///
    /// # Panics
    /// The file system is full.
    pub fn swap(&self, files: &[(&str, &str)]) {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let folder = format!("..version_{version}");
        fs::create_dir(self.path(&folder)).expect("makes");
        for (name, content) in files {
            fs::write(self.path(&folder).join(name), content).expect("writes");
        }
        symlink(&folder, self.path("..data_tmp")).expect("links");
        fs::rename(self.path("..data_tmp"), self.path("..data")).expect("swaps");
        if let Some(before) = version.checked_sub(1) {
            let _ = fs::remove_dir_all(self.path(&format!("..version_{before}")));
        }
    }

    /// The path of one of its files.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
