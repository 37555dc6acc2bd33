//! The partners file: the institutions and the settings of their clients.

use crate::{
    cli::Common,
    failure::{Failure, Result},
};
use px_client::{
    PartnerClient, RetryPolicy,
    oauth::{AuthorizationServer, ClientAuthentication, ServerEndpoints},
};
use px_core::{Clock, HttpTransport, ReqwestTransport};
use px_items::{
    partners::{CallLimits, Partner, Partners},
    webhook::Signer,
};
use px_types::{ClientId, ClientSecret, InstitutionId, ScopeSet};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An institution in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartnerEntry {
    institution_id: InstitutionId,
    base_url: String,
    client_id: ClientId,
    client_secret_file: Option<PathBuf>,
    client_secret_env: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    discover: bool,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    client_secret_in_body: bool,
    scope: Option<ScopeSet>,
    per_second: Option<u32>,
    at_once: Option<usize>,
    revocation_ends_grant: Option<bool>,
}

/// The institutions that the file lists.
#[derive(Clone, Debug)]
pub(crate) struct FilePartners(BTreeMap<InstitutionId, Institution>);

/// An institution.
#[derive(Clone, Debug)]
pub(crate) struct Institution {
    pub(crate) partner: Partner,
    /// The required issuer of an authorization. `None` if it is the discovered one or is not checked.
    pub(crate) issuer: Option<String>,
    /// The scopes to request. `None` requests the partner's defaults.
    pub(crate) scope: Option<ScopeSet>,
}

impl Partners for FilePartners {
    fn partner(&self, id: &InstitutionId) -> Option<Partner> {
        self.0.get(id).map(|institution| institution.partner.clone())
    }
}

impl FilePartners {
    /// Reads the file and the secrets that it refers to.
    pub(crate) fn read(common: &Common) -> Result<Self> {
        Self::read_with(common, None)
    }

    /// Like [`read`](Self::read), with a signer for notifications to institutions.
    pub(crate) fn signing(
        common: &Common,
        signer: &Arc<Signer>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::read_with(common, Some((signer, clock)))
    }

    fn read_with(
        common: &Common,
        signing: Option<(&Arc<Signer>, &Arc<dyn Clock>)>,
    ) -> Result<Self> {
        let file = &common.partners;
        let text = std::fs::read(file).map_err(|e| {
            let what = format!("cannot read the partners file {}", file.display());
            let next = "specify it with --partners; `px --help` describes its format";
            Failure::because(what, &e).into_usage(next)
        })?;
        let entries: Vec<PartnerEntry> = serde_json::from_slice(&text).map_err(|e| {
            Failure::usage(format!("{}: {e}; `px --help` describes its format", file.display()))
        })?;
        let mut transport = ReqwestTransport::builder();
        if common.allow_plain_http {
            transport = transport.allow_plain_http();
        }
        let transport: Arc<dyn HttpTransport> = Arc::new(
            transport.build().map_err(|e| Failure::because("cannot set up the network", &e))?,
        );
        let mut partners = BTreeMap::new();
        for entry in entries {
            let id = entry.institution_id.clone();
            let folder = file.parent().unwrap_or(Path::new(""));
            let institution = entry
                .institution(folder, &transport, signing)
                .map_err(|e| e.into_usage(format_args!("see {id} in {}", file.display())))?;
            if partners.insert(id.clone(), institution).is_some() {
                return Err(Failure::usage(format!("{} lists {id} twice", file.display())));
            }
        }
        Ok(Self(partners))
    }

    pub(crate) fn get(&self, id: &InstitutionId) -> Result<&Institution> {
        self.0.get(id).ok_or_else(|| {
            let known: Vec<_> = self.0.keys().map(InstitutionId::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::not_found(format!("the partners file has no institution {id}; it has {known}"))
        })
    }
}

impl PartnerEntry {
    fn institution(
        self,
        folder: &Path,
        transport: &Arc<dyn HttpTransport>,
        signing: Option<(&Arc<Signer>, &Arc<dyn Clock>)>,
    ) -> Result<Institution> {
        let secret = match (&self.client_secret_file, &self.client_secret_env) {
            (Some(file), None) => secret_file(&folder.join(file))?,
            (None, Some(name)) => std::env::var(name)
                .map_err(|_| Failure::new(format!("the environment has no {name}")))?,
            _ => {
                let what = "set either client_secret_file or client_secret_env";
                return Err(Failure::new(what));
            }
        };
        let (server, issuer) = self.authorization_server()?;
        let mut retry = RetryPolicy::default();
        // The engine schedules later attempts; this retry is for brief faults.
        retry.attempts = 2;
        let mut client = PartnerClient::builder(self.base_url, Arc::clone(transport))
            .client(self.client_id, ClientSecret::new(secret))
            .authorization_server(server)
            .retry(retry);
        if let Some((signer, clock)) = signing {
            let institution = self.institution_id.clone();
            client = client.signer(signer.for_partner(institution, Arc::clone(clock)));
        }
        let client = client.build()?;
        let mut budget = CallLimits::default();
        budget.per_second = self.per_second.unwrap_or(budget.per_second);
        budget.at_once = self.at_once.unwrap_or(budget.at_once);
        if budget.per_second == 0 || budget.at_once == 0 {
            return Err(Failure::new("per_second and at_once must be 1 or more"));
        }
        let mut partner = Partner::new(client);
        partner.budget = budget;
        partner.revocation_ends_grant = self.revocation_ends_grant.unwrap_or(false);
        Ok(Institution { partner, issuer, scope: self.scope })
    }

    /// Returns the authorization server, and the issuer that callbacks must name.
    fn authorization_server(&self) -> Result<(AuthorizationServer, Option<String>)> {
        let endpoints = (&self.authorization_endpoint, &self.token_endpoint);
        let has_any = endpoints.0.is_some() || endpoints.1.is_some();
        let others = self.revocation_endpoint.is_some() || self.client_secret_in_body;
        match (self.discover, endpoints) {
            (true, _) if has_any || others => Err(Failure::new(
                "set either discover or the endpoints of the identity provider, one of them",
            )),
            (true, _) => match &self.issuer {
                Some(issuer) => Ok((AuthorizationServer::discovered(issuer.clone()), None)),
                None => Err(Failure::new("discover needs the issuer")),
            },
            (false, (Some(authorization), Some(token))) => {
                let mut endpoints = ServerEndpoints::new(authorization.clone(), token.clone());
                endpoints.revocation.clone_from(&self.revocation_endpoint);
                if self.client_secret_in_body {
                    endpoints.client_authentication = ClientAuthentication::Body;
                }
                Ok((AuthorizationServer::Configured(endpoints), self.issuer.clone()))
            }
            (false, _) if has_any || others => {
                Err(Failure::new("set authorization_endpoint and token_endpoint, both of them"))
            }
            (false, _) => Ok((AuthorizationServer::Partner, self.issuer.clone())),
        }
    }
}

/// Reads a secret from a file, which may end with a newline.
fn secret_file(file: &Path) -> Result<String> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::because(format!("cannot read {name}"), &e))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::new(format!("{name} is empty")));
    }
    Ok(text.to_owned())
}
