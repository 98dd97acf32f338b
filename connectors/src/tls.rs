//! TLS: which certificates are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::sink::SinkError;

/// Whom a client believes to be the server that it asked for.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Who has a certificate for its name from an authority of this PEM file, or, without one, from one that the system knows.
    Authority(Option<&'a Path>),
    /// Everybody: what is sent is encrypted, and that is all.
    Anybody,
}

/// Makes the library that is compiled in the one that is used, where nobody has said so yet.
pub fn install() {
    // An error says that there is one.
    let _ = ring::default_provider().install_default();
}

/// # Errors
/// [`SinkError::Config`] where the file of authorities cannot be used.
pub fn client(trust: Trust<'_>) -> Result<ClientConfig, SinkError> {
    let provider = Arc::new(ring::default_provider());
    let broken = |e: rustls::Error| SinkError::Config(format!("TLS cannot be set up: {e}"));
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(broken)?;
    Ok(match trust {
        Trust::Authority(file) => builder.with_root_certificates(roots(file)?).with_no_client_auth(),
        Trust::Anybody => {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        }
    })
}

/// The bytes of a file of authorities.
///
/// # Errors
/// [`SinkError::Config`]
pub fn read(file: &Path) -> Result<Vec<u8>, SinkError> {
    std::fs::read(file).map_err(|e| SinkError::Config(format!("tls_ca_file {}: {e}", file.display())))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, SinkError> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        // What cannot be read of the system's is not believed, and that is safe.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let bad = |what: String| SinkError::Config(format!("tls_ca_file {}: {what}", file.display()));
    for certificate in CertificateDer::pem_slice_iter(&read(file)?) {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        roots.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() { Err(bad("holds no certificate in PEM".to_owned())) } else { Ok(roots) }
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
