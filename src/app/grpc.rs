//! The gRPC services over the objects of the app.

use std::sync::Arc;

use tonic_health::pb::health_server::{Health, HealthServer};

use super::services::App;
use crate::grpc::policy::{MAX_PROBE, OptionalServices};
use crate::grpc::reflection;
use crate::grpc::services::{
    Admission, AuditCalls, AuthorizationCalls, ClientCalls, KeyCalls, Services, TokenCalls, UserCalls, ValidateCalls,
    WatchSource, boxed,
};
use crate::model::{Error, Result};
use crate::proto::audit_service_server::AuditServiceServer;
use crate::proto::client_service_server::ClientServiceServer;
use crate::proto::key_service_server::KeyServiceServer;
use crate::proto::token_service_server::TokenServiceServer;
use crate::proto::user_service_server::UserServiceServer;

/// The services over the objects of `app`, with the health service.
///
/// # Errors
/// `Internal` if the descriptors that reflection serves cannot be read.
pub(super) fn services(app: &App, health: HealthServer<impl Health>, optional: OptionalServices) -> Result<Services> {
    let stores = &app.stores;
    let admission = Admission::new(app.feed.clone(), stores.clock.clone());
    let validate = Arc::new(ValidateCalls {
        admission: admission.clone(),
        validator: app.validator.clone(),
    });
    let token = TokenCalls {
        admission: admission.clone(),
        password: app.password_issuer.clone(),
        client_secret: app.client_secret_issuer.clone(),
        exchanger: app.token_exchanger.clone(),
        refresher: app.refresher.clone(),
        revoker: app.revoker.clone(),
        validate: validate.clone(),
        keys: app.keys.clone(),
        watch: WatchSource {
            feed: app.feed.clone(),
            store: stores.durable.clone(),
            clock: stores.clock.clone(),
        },
    };
    let user = UserCalls {
        admission: admission.clone(),
        users: app.users.clone(),
        sessions: app.user_sessions.clone(),
    };
    let client = ClientCalls {
        admission: admission.clone(),
        clients: app.clients.clone(),
    };
    let key = KeyCalls {
        admission: admission.clone(),
        keys: app.keys.clone(),
        feed: app.feed.clone(),
        publisher: app.publisher.clone(),
    };
    let audit = AuditCalls {
        admission: admission.clone(),
        trail: app.trail.clone(),
    };
    let authorization = AuthorizationCalls {
        admission,
        gateway: app.gateway.clone(),
        refresher: app.refresher.clone(),
    };
    let reflection = reflection::current(optional).map_err(Error::internal)?;
    let reflection_alpha = reflection::alpha(optional).map_err(Error::internal)?;
    Ok(Services {
        validate,
        token: TokenServiceServer::new(token),
        user: UserServiceServer::new(user),
        client: ClientServiceServer::new(client),
        key: KeyServiceServer::new(key),
        audit: AuditServiceServer::new(audit),
        authorization: Arc::new(authorization),
        health: boxed(health.max_decoding_message_size(MAX_PROBE)),
        reflection: boxed(reflection.max_decoding_message_size(MAX_PROBE)),
        reflection_alpha: boxed(reflection_alpha.max_decoding_message_size(MAX_PROBE)),
    })
}
