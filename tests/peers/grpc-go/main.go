// Makes the four calls with grpc-go, over TLS and with a client certificate: peer ADDRESS FOLDER.
//
// It reads the messages from deploy/countersign.protoset, as a tool does without reflection.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

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

// The messages are dynamic; older releases of grpc-go expect generated ones without this codec.
type codec struct{}

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(bytes []byte, message interface{}) error {
	return proto.Unmarshal(bytes, message.(proto.Message))
}

func (codec) Name() string { return "proto" }

type caller struct {
	connection *grpc.ClientConn
	files      *protoregistry.Files
}

func (c caller) call(method, request string) (protoreflect.Message, error) {
	message := func(name string) *dynamicpb.Message {
		found, err := c.files.FindDescriptorByName(protoreflect.FullName("countersign.v1." + name))
		must(err)
		return dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor))
	}
	asked, answer := message(method+"Request"), message(method+"Response")
	must(protojson.Unmarshal([]byte(request), asked))
	within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := c.connection.Invoke(within, "/countersign.v1.TokenService/"+method, asked, answer, grpc.ForceCodec(codec{}))
	return answer, err
}

func field(message protoreflect.Message, name string) protoreflect.Value {
	return message.Get(message.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

func main() {
	address, folder := os.Args[1], os.Args[2]
	descriptors, err := os.ReadFile(os.Getenv("PEER_PROTOSET"))
	must(err)
	var set descriptorpb.FileDescriptorSet
	must(proto.Unmarshal(descriptors, &set))
	files, err := protodesc.NewFiles(&set)
	must(err)

	authority, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	must(err)
	roots := x509.NewCertPool()
	check(roots.AppendCertsFromPEM(authority), "the authority can be read")
	connect := func(identity ...tls.Certificate) caller {
		secure := credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: identity, MinVersion: tls.VersionTLS13})
		connection, err := grpc.Dial(address, grpc.WithTransportCredentials(secure))
		must(err)
		return caller{connection, files}
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(folder, "client.crt"), filepath.Join(folder, "client.key"))
	must(err)
	anonymous, known := connect(), connect(own)

	login := fmt.Sprintf(`{"password": {"username": "ada", "password": %q}}`, os.Getenv("PEER_PASSWORD"))
	issued, err := anonymous.call("Issue", login)
	must(err)
	first := field(issued, "tokens").Message()
	asked := fmt.Sprintf(`{"accessToken": %q}`, field(first, "access_token").String())
	_, err = anonymous.call("Validate", asked)
	check(status.Code(err) == codes.Unauthenticated, "a caller without a certificate may not validate")
	valid, err := known.call("Validate", asked)
	must(err)
	check(field(valid, "active").Bool(), "the token is active")
	refreshed, err := anonymous.call("Refresh", fmt.Sprintf(`{"refreshToken": %q}`, field(first, "refresh_token").String()))
	must(err)
	second := field(refreshed, "tokens").Message()
	ended, err := anonymous.call("Revoke", fmt.Sprintf(`{"token": %q}`, field(second, "refresh_token").String()))
	must(err)
	check(field(ended, "sessions_revoked").Uint() == 1, "one session ended")
	inactive, err := known.call("Validate", asked)
	must(err)
	check(!field(inactive, "active").Bool(), "the token is inactive")
	fmt.Println("good")
}
