//! The implementation of `UserService`.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming};

use super::Admission;
use crate::account::{Sessions, UserKey, Users};
use crate::grpc::convert::{import_row, imported, optional_moment, paths, required, session, user, user_draft};
use crate::model::Error;
use crate::proto::convert::time::timestamp;
use crate::proto::user_service_server::UserService;
use crate::proto::{
    BeginPasswordResetRequest, BeginPasswordResetResponse, ChangePasswordRequest, ChangePasswordResponse,
    CompletePasswordResetRequest, CompletePasswordResetResponse, CreateUserRequest, CreateUserResponse,
    DeleteUserRequest, DeleteUserResponse, DisableUserRequest, DisableUserResponse, EnableUserRequest,
    EnableUserResponse, GetUserRequest, GetUserResponse, ImportUsersRequest, ImportUsersResponse, ListSessionsRequest,
    ListSessionsResponse, ListUsersRequest, ListUsersResponse, SetPasswordRequest, SetPasswordResponse,
    UpdateUserRequest, UpdateUserResponse, get_user_request,
};

/// `UserService`: its operations.
pub(crate) struct UserCalls {
    pub(crate) admission: Admission,
    pub(crate) users: Arc<Users>,
    pub(crate) sessions: Arc<Sessions>,
}

#[tonic::async_trait]
impl UserService for UserCalls {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let work = self.admission.admit(request)?;
        let (principal, deadline) = (work.principal(), work.deadline);
        let draft = user_draft(required(work.message.user, "user")?)?;
        let password = work.message.password.into();
        let made = self.users.create(&principal, &draft, password, deadline).await?;
        Ok(Response::new(CreateUserResponse { user: Some(user(made)) }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let work = self.admission.admit(request)?;
        let key = match required(work.message.key.as_ref(), "key")? {
            get_user_request::Key::UserId(id) => UserKey::Id(id),
            get_user_request::Key::Username(name) => UserKey::Name(name),
        };
        let found = self.users.get(&work.principal(), key).await?;
        Ok(Response::new(GetUserResponse {
            user: Some(user(found)),
        }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let work = self.admission.admit(request)?;
        let message = &work.message;
        let page = self
            .users
            .list(
                &work.principal(),
                message.page_size,
                &message.page_token,
                &message.query,
            )
            .await?;
        Ok(Response::new(ListUsersResponse {
            users: page.items.into_iter().map(user).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        let principal = work.principal();
        let message = required(work.message.user, "user")?;
        let id = message.user_id.clone();
        let read = optional_moment(message.update_time.as_ref(), "user.update_time")?;
        let mask = paths(work.message.update_mask);
        let draft = user_draft(message)?;
        let changed = self.users.update(&principal, &id, &draft, &mask, read).await?;
        Ok(Response::new(UpdateUserResponse {
            user: Some(user(changed)),
        }))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        self.users.delete(&work.principal(), &work.message.user_id).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn disable_user(
        &self,
        request: Request<DisableUserRequest>,
    ) -> Result<Response<DisableUserResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        let changed = self
            .users
            .set_disabled(&work.principal(), &work.message.user_id, true)
            .await?;
        Ok(Response::new(DisableUserResponse {
            user: Some(user(changed)),
        }))
    }

    async fn enable_user(&self, request: Request<EnableUserRequest>) -> Result<Response<EnableUserResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        let changed = self
            .users
            .set_disabled(&work.principal(), &work.message.user_id, false)
            .await?;
        Ok(Response::new(EnableUserResponse {
            user: Some(user(changed)),
        }))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let work = self.admission.admit(request)?;
        let (principal, deadline) = (work.principal(), work.deadline);
        let ChangePasswordRequest {
            user_id,
            old_password,
            new_password,
            keep_session_id,
        } = work.message;
        let (old, new) = (old_password.into(), new_password.into());
        self.users
            .change_password(&principal, &user_id, old, new, &keep_session_id, deadline)
            .await?;
        Ok(Response::new(ChangePasswordResponse {}))
    }

    async fn set_password(
        &self,
        request: Request<SetPasswordRequest>,
    ) -> Result<Response<SetPasswordResponse>, Status> {
        let work = self.admission.admit_change(request)?;
        let (principal, deadline) = (work.principal(), work.deadline);
        let SetPasswordRequest { user_id, new_password } = work.message;
        self.users
            .set_password(&principal, &user_id, new_password.into(), deadline)
            .await?;
        Ok(Response::new(SetPasswordResponse {}))
    }

    async fn begin_password_reset(
        &self,
        request: Request<BeginPasswordResetRequest>,
    ) -> Result<Response<BeginPasswordResetResponse>, Status> {
        let work = self.admission.admit(request)?;
        let begun = self.users.begin_reset(&work.principal(), &work.message.user_id).await?;
        Ok(Response::new(BeginPasswordResetResponse {
            reset_token: begun.token.expose().to_owned(),
            expire_time: Some(timestamp(begun.expires)),
        }))
    }

    async fn complete_password_reset(
        &self,
        request: Request<CompletePasswordResetRequest>,
    ) -> Result<Response<CompletePasswordResetResponse>, Status> {
        let work = self.admission.admit(request)?;
        let (principal, deadline) = (work.principal(), work.deadline);
        let CompletePasswordResetRequest {
            reset_token,
            new_password,
        } = work.message;
        let user_id = self
            .users
            .complete_reset(&principal, &reset_token.into(), new_password.into(), deadline)
            .await?;
        Ok(Response::new(CompletePasswordResetResponse {
            user_id: user_id.to_string(),
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let work = self.admission.admit(request)?;
        let sessions = self.sessions.list(&work.principal(), &work.message.user_id).await?;
        Ok(Response::new(ListSessionsResponse {
            sessions: sessions.into_iter().map(session).collect(),
        }))
    }

    async fn import_users(
        &self,
        request: Request<Streaming<ImportUsersRequest>>,
    ) -> Result<Response<ImportUsersResponse>, Status> {
        let work = self.admission.admit(request)?;
        let principal = work.principal();
        // An invalid row is reported in the response. A failed stream ends the import with the error of the stream.
        let mut stream_error = None;
        let rows = stream::unfold(
            (work.message, &mut stream_error),
            |(mut messages, stream_error)| async {
                let row = match messages.message().await {
                    Ok(None) => return None,
                    Ok(Some(message)) => import_row(message),
                    Err(status) => {
                        *stream_error = Some(status);
                        Err(Error::internal("the stream of an import failed"))
                    }
                };
                Some((row, (messages, stream_error)))
            },
        );
        let done = self.users.import(&principal, rows.boxed()).await;
        if let Some(status) = stream_error {
            return Err(status);
        }
        Ok(Response::new(imported(done?.complete()?)))
    }
}
