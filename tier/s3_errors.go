package tier

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"
)

//nolint:gosec // names of variables, no secrets
const hintCredentials = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE, to keys that may use this bucket"

// classify gives an error of minio-go its kind, what it concerns, and the next step.
func (s *S3) classify(op, name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return s.fail(op, name, nil, err, "")
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && (answer.StatusCode != 0 || answer.Code != "") {
		hint, kind := s.judge(answer)
		return s.fail(op, name, kind, answerError(answer), hint)
	}
	var (
		transfer    *transferError
		certificate *x509.UnknownAuthorityError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		dns         *net.DNSError
		network     *net.OpError
		request     *url.Error
	)
	switch {
	case errors.As(err, &transfer):
		return s.fail(op, name, ErrUnavailable, err, "check the network between this machine and the object store")
	case errors.As(err, &authority), errors.As(err, &certificate), errors.As(err, &host):
		return s.fail(op, name, ErrDenied, err, "the endpoint's certificate is not trusted here: set SSL_CERT_FILE, or correct the endpoint")
	case errors.As(err, &dns):
		return s.fail(op, name, ErrUnavailable, err, "check the host name of the endpoint (--s3-endpoint, AWS_ENDPOINT_URL_S3)")
	case errors.As(err, &network):
		return s.fail(op, name, ErrUnavailable, err, "is the object store running, and the endpoint (--s3-endpoint, AWS_ENDPOINT_URL_S3) right?")
	case errors.As(err, &request), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF):
		return s.fail(op, name, ErrUnavailable, err, "check that the endpoint (--s3-endpoint, AWS_ENDPOINT_URL_S3) speaks S3, and http or https as given")
	}
	return s.fail(op, name, nil, err, "")
}

// judge maps an answer of the server, by its code and else by its status.
func (s *S3) judge(answer minio.ErrorResponse) (hint string, kind error) {
	switch answer.Code {
	case "NoSuchKey", "NoSuchVersion", "XMinioInvalidObjectName":
		return "", ErrNotFound
	case "NoSuchBucket":
		return fmt.Sprintf("create bucket %q, or correct --store", s.cfg.Bucket), ErrNoBucket
	case "InvalidRange":
		return "", nil
	case "RequestTimeTooSkewed", "RequestInTheFuture":
		return "this machine's clock differs from the object store's by more than 15 minutes: set it (NTP)", ErrDenied
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired":
		return hintCredentials, ErrDenied
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		if answer.Region != "" {
			return fmt.Sprintf("the bucket is in region %q, not %q: set AWS_REGION=%s", answer.Region, s.cfg.Region, answer.Region), ErrDenied
		}
		return fmt.Sprintf("the bucket is not in region %q: set AWS_REGION", s.cfg.Region), ErrDenied
	case "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "InsufficientStorageSpace":
		return "free space or raise the quota; writing goes on by itself", ErrNoSpace
	case "BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "IncompleteBody", "RequestTimeout":
		return "the body was damaged or cut on its way: check the network, and memory of this machine", ErrUnavailable
	}
	switch st := answer.StatusCode; {
	case st == http.StatusUnauthorized, st == http.StatusForbidden:
		return fmt.Sprintf("allow these keys s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on bucket %q; or %s", s.cfg.Bucket, hintCredentials), ErrDenied
	case st == http.StatusMovedPermanently, st == http.StatusTemporaryRedirect:
		return fmt.Sprintf("the bucket is not in region %q: set AWS_REGION", s.cfg.Region), ErrDenied
	case st == http.StatusNotFound:
		return "", ErrNotFound
	case st == http.StatusInsufficientStorage:
		return "free space or raise the quota; writing goes on by itself", ErrNoSpace
	case st >= 500, st == http.StatusTooManyRequests, st == http.StatusRequestTimeout, st == 499:
		return "the object store asked to come again later; if it lasts, look at its own logs and limits", ErrUnavailable
	}
	return "", nil
}

// answerError turns a server's answer into a cause. A range that begins behind the end is a short object.
func answerError(answer minio.ErrorResponse) error {
	if answer.Code == "InvalidRange" {
		return fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, answer.Message)
	}
	if answer.Code == "NoSuchKey" {
		return nil
	}
	return fmt.Errorf("%s (%s, HTTP %d)", answer.Message, answer.Code, answer.StatusCode)
}

func (s *S3) fail(op, name string, kind, cause error, hint string) error {
	return &Error{Op: op, Name: name, Store: s.where, Kind: kind, Cause: cause, Hint: hint}
}
