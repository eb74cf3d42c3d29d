//! Reading files for TLS.
