//! Reflection, and unknown methods.

use std::collections::BTreeSet;

use tonic::Code;
use tonic_reflection::pb::{v1, v1alpha};

use crate::server::{Server, ServerSettings};

async fn symbols(
    server: &Server,
    wanted: v1::server_reflection_request::MessageRequest,
) -> v1::ServerReflectionResponse {
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1::ServerReflectionRequest {
        message_request: Some(wanted),
        ..Default::default()
    };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await;
    answers.unwrap().into_inner().message().await.unwrap().unwrap()
}

#[tokio::test]
async fn reflection_lists_every_service_and_the_error_details() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let server = Server::start(ServerSettings::default()).await;
    let answer = symbols(&server, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["Token", "User", "Client", "Key", "Audit"] {
        assert!(names.contains(&format!("countersign.v1.{service}Service")), "{names:?}");
    }
    assert!(names.contains("grpc.health.v1.Health"), "{names:?}");
    for symbol in [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "countersign.v1.ErrorReason",
    ] {
        let answer = symbols(&server, MessageRequest::FileContainingSymbol(symbol.into())).await;
        let found = matches!(
            answer.message_response,
            Some(MessageResponse::FileDescriptorResponse(_))
        );
        assert!(found, "{symbol}: {answer:?}");
    }
}

#[tokio::test]
async fn the_older_reflection_protocol_is_supported() {
    let server = Server::start(ServerSettings::default()).await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await;
    assert!(answers.unwrap().into_inner().message().await.unwrap().is_some());
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let setup = ServerSettings {
        reflection: false,
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = tokio_stream::once(v1::ServerReflectionRequest::default());
    let error = client.server_reflection_info(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);

    let mut raw = tonic::client::Grpc::new(server.channel().await);
    raw.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/countersign.v1.TokenService/Forge");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let error = raw.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}
