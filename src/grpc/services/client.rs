//! The implementation of `ClientService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Admission;
use crate::account::Clients;
use crate::grpc::convert::{client, client_draft, optional_duration, optional_moment, paths, required};
use crate::proto::client_service_server::ClientService;
use crate::proto::convert::time::timestamp;
use crate::proto::{
    CreateClientRequest, CreateClientResponse, DeleteClientRequest, DeleteClientResponse, GetClientRequest,
    GetClientResponse, ListClientsRequest, ListClientsResponse, RotateClientSecretRequest, RotateClientSecretResponse,
    UpdateClientRequest, UpdateClientResponse,
};

/// `ClientService`: its operations.
pub(crate) struct ClientCalls {
    pub(crate) admission: Admission,
    pub(crate) clients: Arc<Clients>,
}

#[tonic::async_trait]
impl ClientService for ClientCalls {
    async fn create_client(
        &self,
        request: Request<CreateClientRequest>,
    ) -> Result<Response<CreateClientResponse>, Status> {
        let work = self.admission.admit(request)?;
        let principal = work.principal();
        let draft = client_draft(required(work.message.client, "client")?)?;
        let (made, secret) = self.clients.create(&principal, &draft).await?;
        Ok(Response::new(CreateClientResponse {
            client: Some(client(made)),
            client_secret: secret.map(|secret| secret.expose().to_owned()).unwrap_or_default(),
        }))
    }

    async fn get_client(&self, request: Request<GetClientRequest>) -> Result<Response<GetClientResponse>, Status> {
        let work = self.admission.admit(request)?;
        let found = self.clients.get(&work.principal(), &work.message.client_id).await?;
        Ok(Response::new(GetClientResponse {
            client: Some(client(found)),
        }))
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        let work = self.admission.admit(request)?;
        let message = &work.message;
        let page = self
            .clients
            .list(&work.principal(), message.page_size, &message.page_token)
            .await?;
        Ok(Response::new(ListClientsResponse {
            clients: page.items.into_iter().map(client).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_client(
        &self,
        request: Request<UpdateClientRequest>,
    ) -> Result<Response<UpdateClientResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        let principal = work.principal();
        let message = required(work.message.client, "client")?;
        let read = optional_moment(message.update_time.as_ref(), "client.update_time")?;
        let mask = paths(work.message.update_mask);
        let draft = client_draft(message)?;
        let changed = self.clients.update(&principal, &draft, &mask, read).await?;
        Ok(Response::new(UpdateClientResponse {
            client: Some(client(changed)),
        }))
    }

    async fn delete_client(
        &self,
        request: Request<DeleteClientRequest>,
    ) -> Result<Response<DeleteClientResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        self.clients.delete(&work.principal(), &work.message.client_id).await?;
        Ok(Response::new(DeleteClientResponse {}))
    }

    async fn rotate_client_secret(
        &self,
        request: Request<RotateClientSecretRequest>,
    ) -> Result<Response<RotateClientSecretResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        let overlap = optional_duration(work.message.overlap, "overlap")?;
        let rotated = self
            .clients
            .rotate_secret(&work.principal(), &work.message.client_id, overlap)
            .await?;
        Ok(Response::new(RotateClientSecretResponse {
            client_secret: rotated.secret.expose().to_owned(),
            old_expire_time: Some(timestamp(rotated.old_expires)),
        }))
    }
}
