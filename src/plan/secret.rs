//! Which names promise a value that nobody should read in an output.

/// What takes the place of a secret value in every output.
pub const HIDDEN: &str = "(hidden)";

/// Whether a header's or a setting's name promises a secret: credentials, cookies, tokens, keys. It errs
/// on the side of hiding.
pub fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 11] = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "passwd",
        "credential",
        "signature",
        "session",
        "api-key",
        "apikey",
    ];
    let name = name.to_ascii_lowercase().replace('_', "-");
    WORDS.iter().any(|word| name.contains(word))
        || name.ends_with("-key") && name != "idempotency-key"
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_that_carry_credentials_are_secret() {
        for name in [
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "set-cookie",
            "x-auth-token",
            "X-Api-Key",
            "api_key",
            "client_secret",
            "x-access-key",
        ] {
            assert!(is_secret(name), "{name}");
        }
    }

    #[test]
    fn names_that_an_operator_needs_to_read_are_not() {
        for name in [
            "content-type",
            "x-tenant",
            "idempotency-key",
            "retry-after",
            "key",
            "name",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
