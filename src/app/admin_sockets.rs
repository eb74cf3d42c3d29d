//! The sockets of the admin interface: the one that offers everything, and the one that others may reach.

use std::sync::Arc;

use super::StartError;
use crate::plan::{Plan, SocketAddress};
use crate::server::admin::{self, Control, Offer};
use crate::server::socket::Listening;

/// Where the admin interface listens.
pub(super) struct AdminSockets {
    admin: Listening,
    metrics: Option<Listening>,
}

impl AdminSockets {
    /// Binds them; none is answered yet.
    pub(super) fn bind(plan: &Plan) -> Result<Self, StartError> {
        let admin = Listening::bind(&plan.admin).map_err(|source| StartError::Admin {
            address: plan.admin.clone(),
            source,
        })?;
        let bind_metrics = |address: &SocketAddress| {
            Listening::bind(address).map_err(|source| StartError::Metrics {
                address: address.clone(),
                source,
            })
        };
        let metrics = plan.metrics.as_ref().map(bind_metrics).transpose()?;
        Ok(Self { admin, metrics })
    }

    /// Begins to answer; gives the addresses with their real ports.
    pub(super) fn serve(
        self,
        control: &Arc<Control>,
    ) -> std::io::Result<(SocketAddress, Option<SocketAddress>)> {
        let begin = |socket: Listening, offer| {
            let address = socket.address().clone();
            let accepting = socket.accepting()?;
            tokio::spawn(admin::serve(accepting, Arc::clone(control), offer));
            Ok::<_, std::io::Error>(address)
        };
        let admin = begin(self.admin, Offer::Everything)?;
        tracing::info!(address = %admin, "admin listening");
        let metrics = self.metrics.map(|socket| begin(socket, Offer::Readings));
        let metrics = metrics.transpose()?;
        if let Some(address) = &metrics {
            tracing::info!(%address, "metrics and probes listening");
        }
        Ok((admin, metrics))
    }
}
