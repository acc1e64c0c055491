// Makes the four calls with grpc-go, over TLS and with a client certificate: peer ADDRESS FOLDER.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	countersignv1 "countersign/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Old releases of grpc-go, such as Debian's, need it for messages of google.golang.org/protobuf.
type codec struct{}

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(bytes []byte, message interface{}) error {
	return proto.Unmarshal(bytes, message.(proto.Message))
}

func (codec) Name() string { return "proto" }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(good bool, what string) {
	if !good {
		must(fmt.Errorf("check failed: %s", what))
	}
}

func main() {
	address, folder := os.Args[1], os.Args[2]
	authority, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	must(err)
	roots := x509.NewCertPool()
	check(roots.AppendCertsFromPEM(authority), "the authority can be read")
	// Requests are compressed with gzip.
	compressed := grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name), grpc.ForceCodec(codec{}))
	connect := func(identity ...tls.Certificate) countersignv1.TokenServiceClient {
		secure := credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: identity, MinVersion: tls.VersionTLS13})
		connection, err := grpc.Dial(address, grpc.WithTransportCredentials(secure), compressed)
		must(err)
		return countersignv1.NewTokenServiceClient(connection)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(folder, "client.crt"), filepath.Join(folder, "client.key"))
	must(err)
	anonymous, known := connect(), connect(own)
	within, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	password := &countersignv1.PasswordCredential{Username: "ada", Password: os.Getenv("PEER_PASSWORD")}
	login := &countersignv1.IssueRequest{Credential: &countersignv1.IssueRequest_Password{Password: password}}
	issued, err := anonymous.Issue(within, login)
	must(err)
	first := issued.GetTokens()
	asked := &countersignv1.ValidateRequest{AccessToken: first.GetAccessToken()}
	_, err = anonymous.Validate(within, asked)
	check(status.Code(err) == codes.Unauthenticated, "a caller without a certificate may not validate")
	valid, err := known.Validate(within, asked)
	must(err)
	check(valid.GetActive(), "the token is active")
	second, err := anonymous.Refresh(within, &countersignv1.RefreshRequest{RefreshToken: first.GetRefreshToken()})
	must(err)
	check(second.GetOutcome() == countersignv1.RefreshOutcome_REFRESH_OUTCOME_ROTATED, "the refresh token is rotated")
	token := &countersignv1.RevokeRequest_Token{Token: second.GetTokens().GetRefreshToken()}
	ended, err := anonymous.Revoke(within, &countersignv1.RevokeRequest{Target: token})
	must(err)
	check(ended.GetSessionsRevoked() == 1, "one session ended")
	inactive, err := known.Validate(within, asked)
	must(err)
	check(inactive.GetReason() == countersignv1.InactiveReason_INACTIVE_REASON_REVOKED, "the token is inactive")
	fmt.Println("good")
}
