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
import io.grpc.netty.NettyChannelBuilder;
import java.util.concurrent.TimeUnit;

/**
 * Makes the four calls with grpc-java: Calls ADDRESS. Requests are compressed with gzip.
 *
 * <p>Without TLS, because Debian's netty has no ALPN.
 */
public final class Calls {
    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }

    public static void main(String[] arguments) {
        ManagedChannel channel = NettyChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
        TokenServiceBlockingStub service = TokenServiceGrpc.newBlockingStub(channel)
                .withCompression("gzip")
                .withDeadlineAfter(30, TimeUnit.SECONDS);

        PasswordCredential password = PasswordCredential.newBuilder()
                .setUsername("ada")
                .setPassword(System.getenv("PEER_PASSWORD"))
                .build();
        Tokens first = service.issue(IssueRequest.newBuilder().setPassword(password).build()).getTokens();
        ValidateRequest asked = ValidateRequest.newBuilder().setAccessToken(first.getAccessToken()).build();
        try {
            service.refresh(RefreshRequest.newBuilder().setRefreshToken("csr_garbage").build());
            throw new AssertionError("a refresh token that was not issued is accepted");
        } catch (StatusRuntimeException error) {
            check(error.getStatus().getCode() == Status.Code.UNAUTHENTICATED, error.toString());
        }
        check(service.validate(asked).getActive(), "the token is active");
        RefreshResponse second =
                service.refresh(RefreshRequest.newBuilder().setRefreshToken(first.getRefreshToken()).build());
        check(second.getOutcome() == RefreshOutcome.REFRESH_OUTCOME_ROTATED, second.getOutcome().toString());
        String token = second.getTokens().getRefreshToken();
        int ended = service.revoke(RevokeRequest.newBuilder().setToken(token).build()).getSessionsRevoked();
        check(ended == 1, "one session ended");
        ValidateResponse inactive = service.validate(asked);
        check(inactive.getReason() == InactiveReason.INACTIVE_REASON_REVOKED, inactive.toString());

        channel.shutdownNow();
        System.out.println("good");
    }
}
