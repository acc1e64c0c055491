import countersign.v1.InactiveReason;
import countersign.v1.IssueRequest;
import countersign.v1.PasswordCredential;
import countersign.v1.RefreshOutcome;
import countersign.v1.RefreshRequest;
import countersign.v1.RefreshResponse;
import countersign.v1.RevokeRequest;
import countersign.v1.TokenServiceGrpc;
import countersign.v1.TokenServiceGrpc.TokenServiceBlockingStub;
import countersign.v1.Tokens;
import countersign.v1.ValidateRequest;
import countersign.v1.ValidateResponse;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.handler.ssl.SslContextBuilder;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/** Makes the four calls with grpc-java, over TLS and with a client certificate: Calls ADDRESS FOLDER. */
public final class Calls {
    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }

    private static ManagedChannel connect(String address, Path folder, boolean withCertificate) throws Exception {
        SslContextBuilder tls = GrpcSslContexts.forClient().trustManager(folder.resolve("ca.crt").toFile());
        if (withCertificate) {
            tls.keyManager(folder.resolve("client.crt").toFile(), folder.resolve("client.key").toFile());
        }
        return NettyChannelBuilder.forTarget(address).sslContext(tls.build()).build();
    }

    /** Requests are compressed with gzip. */
    private static TokenServiceBlockingStub stub(ManagedChannel channel) {
        return TokenServiceGrpc.newBlockingStub(channel)
                .withCompression("gzip")
                .withDeadlineAfter(30, TimeUnit.SECONDS);
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[1]);
        ManagedChannel anonymousChannel = connect(arguments[0], folder, false);
        ManagedChannel knownChannel = connect(arguments[0], folder, true);
        TokenServiceBlockingStub anonymous = stub(anonymousChannel);
        TokenServiceBlockingStub known = stub(knownChannel);

        PasswordCredential password = PasswordCredential.newBuilder()
                .setUsername("ada")
                .setPassword(System.getenv("PEER_PASSWORD"))
                .build();
        Tokens first = anonymous.issue(IssueRequest.newBuilder().setPassword(password).build()).getTokens();
        ValidateRequest asked = ValidateRequest.newBuilder().setAccessToken(first.getAccessToken()).build();
        try {
            anonymous.validate(asked);
            throw new AssertionError("a caller without a certificate may validate");
        } catch (StatusRuntimeException error) {
            check(error.getStatus().getCode() == Status.Code.UNAUTHENTICATED, error.toString());
        }
        check(known.validate(asked).getActive(), "the token is active");
        RefreshResponse second =
                anonymous.refresh(RefreshRequest.newBuilder().setRefreshToken(first.getRefreshToken()).build());
        check(second.getOutcome() == RefreshOutcome.REFRESH_OUTCOME_ROTATED, second.getOutcome().toString());
        String token = second.getTokens().getRefreshToken();
        int ended = anonymous.revoke(RevokeRequest.newBuilder().setToken(token).build()).getSessionsRevoked();
        check(ended == 1, "one session ended");
        ValidateResponse inactive = known.validate(asked);
        check(inactive.getReason() == InactiveReason.INACTIVE_REASON_REVOKED, inactive.toString());

        anonymousChannel.shutdownNow();
        knownChannel.shutdownNow();
        System.out.println("good");
    }
}
