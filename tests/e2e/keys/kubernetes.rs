//! `kubernetes`: a service as an endpoint, and where its API is. The tests are those of the feature.

use crate::kubernetes::{
    a_port_is_meant_by_number_or_alone_and_one_that_is_not_there_is_told as port,
    a_token_that_was_renewed_is_shown_from_then_on as token_file,
    endpoints_of_our_zone_are_preferred_and_others_stand_in as zone,
    its_endpoints_are_there_from_the_first_request_on_and_followed as service,
    the_api_is_spoken_to_under_tls_and_must_be_who_it_says as ca,
};

use super::Keys;

pub(super) const KEYS: Keys = &[
    ("endpoint.kubernetes", service),
    ("kubernetes.service", service),
    // The API of these tests knows one namespace.
    ("kubernetes.namespace", service),
    ("kubernetes.port", port),
    ("runtime.kubernetes", service),
    ("kubernetes_api.api", service),
    ("kubernetes_api.token_file", token_file),
    ("kubernetes_api.ca", ca),
    ("kubernetes_api.zone", zone),
];
