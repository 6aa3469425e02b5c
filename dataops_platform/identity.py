"""Who the platform is on Google Cloud: credentials, and the clients that use them.

In this order: what DATAOPS_CREDENTIALS holds, else Application Default Credentials, which on Kubernetes are Workload
Identity; then, if DATAOPS_IMPERSONATE is set, the service account it names. An emulator is asked anonymously, unless
one of the two is set.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from google.api_core.client_info import ClientInfo
from google.auth import (
    aws,
    compute_engine,
    external_account,
    identity_pool,
    impersonated_credentials,
    pluggable,
)
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import Request
from google.oauth2 import credentials as user_login
from google.oauth2 import service_account

from dataops_platform.contracts.problems import ConfigError, DataOpsError, Unavailable
from dataops_platform.secrets import SCOPE, Secret, Variables, application_default, brief, hide, redact

if TYPE_CHECKING:
    from google.cloud.bigquery import Client as BigQueryClient
    from google.cloud.bigquery_storage import BigQueryReadClient
    from google.cloud.storage import Client as StorageClient
    from google.pubsub_v1 import PublisherClient, SubscriberClient

CREDENTIALS = "DATAOPS_CREDENTIALS"
IMPERSONATE = "DATAOPS_IMPERSONATE"

_E_MAIL = re.compile(r"[^@\s,]+@[^@\s,]+\.gserviceaccount\.com")


@dataclass(frozen=True, slots=True)
class Description:
    """An identity in words.

    Attributes:
        kind: "service account key", "federated workload", "attached service account", "person's login", "anonymous".
        source: where it comes from: a setting, or Application Default Credentials.
        email: whose credentials they are, where they say so.
        impersonates: the service accounts that are impersonated, the last one being who acts.
    """

    kind: str
    source: str
    email: str | None = None
    impersonates: tuple[str, ...] = ()

    @property
    def acts_as(self) -> str | None:
        """The e-mail that needs the roles."""
        return self.impersonates[-1] if self.impersonates else self.email

    def __str__(self) -> str:
        who = f"{self.kind} {self.email}" if self.email else self.kind
        as_whom = f", impersonating {' → '.join(self.impersonates)}" if self.impersonates else ""
        return f"{who} ({self.source}){as_whom}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the platform is. Nothing is read or asked before credentials are needed; then they are kept.

    Attributes:
        key: DATAOPS_CREDENTIALS: a service account key or the configuration of an external account, as JSON, as
            JSON in base64, as the path of a file, or where a secret may be (`sm://…`, `file://…`); default:
            Application Default Credentials.
        impersonate: DATAOPS_IMPERSONATE: e-mail of the service account to act as. Several, separated by commas, are
            a chain: each may make tokens for the next, and the last one acts.
        storage_emulator: STORAGE_EMULATOR_HOST: URL of a server that stands in for Cloud Storage.
        bigquery_emulator: BIGQUERY_EMULATOR_HOST: the same for BigQuery.
        storage_read_emulator: BIGQUERY_STORAGE_EMULATOR_HOST: `host:port` of the same for its Storage Read API (gRPC).
        pubsub_emulator: PUBSUB_EMULATOR_HOST: `host:port` of a server that stands in for Pub/Sub.
    """

    key: Secret | None = None
    impersonate: tuple[str, ...] = ()
    storage_emulator: str | None = None
    bigquery_emulator: str | None = None
    storage_read_emulator: str | None = None
    pubsub_emulator: str | None = None
    _made: dict[str, Credentials] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Identity:
        """Read the settings. References in these two are followed with Application Default Credentials.

        Raises:
            ConfigError: a value can't be used; the text names the variable.
        """
        variables = Variables(environ)
        return cls(
            key=_key(variables),
            impersonate=_chain(variables.get(IMPERSONATE) or ""),
            storage_emulator=_url("STORAGE_EMULATOR_HOST", variables),
            bigquery_emulator=_url("BIGQUERY_EMULATOR_HOST", variables),
            storage_read_emulator=variables.get("BIGQUERY_STORAGE_EMULATOR_HOST") or None,
            pubsub_emulator=variables.get("PUBSUB_EMULATOR_HOST") or None,
        )

    @property
    def explicit(self) -> bool:
        """Whether the settings say who the platform is."""
        return self.key is not None or bool(self.impersonate)

    def credentials(self) -> Credentials:
        """The credentials; anonymous ones if there is an emulator and no explicit setting.

        Raises:
            ConfigError: there are none, or they are malformed; the text says which setting to mend.
            Unavailable: a service that is needed for them doesn't answer.
        """
        return self._for(self.storage_emulator or self.bigquery_emulator)

    def google_credentials(self) -> Credentials:
        """The credentials for Google itself, even if there are emulators.

        Raises:
            ConfigError: there are none, or they are malformed; the text says which setting to mend.
            Unavailable: a service that is needed for them doesn't answer.
        """
        return self._once("acting", self._impersonating) if self.impersonate else self._source()

    def storage_client(self, project: str | None = None) -> StorageClient:
        """A new client of Cloud Storage. Only making buckets needs a project.

        Raises:
            ConfigError: as `credentials` does.
            Unavailable: as `credentials` does.
        """
        # Imported here: slow, and needless where the lake is a folder.
        from google.cloud.storage import Client

        return Client(
            project=project,
            credentials=self._for(self.storage_emulator),
            client_info=_client_info(),
            client_options=_options(self.storage_emulator),
        )

    def bigquery_client(self, project: str, location: str | None = None) -> BigQueryClient:
        """A new client of BigQuery; jobs run in this project and, if given, location.

        Raises:
            ConfigError: as `credentials` does.
            Unavailable: as `credentials` does.
        """
        # Imported here: it takes a second, needlessly where the warehouse is a file.
        from google.cloud.bigquery import Client

        return Client(
            project=project,
            location=location,
            credentials=self._for(self.bigquery_emulator),
            client_info=_client_info(),
            client_options=_options(self.bigquery_emulator),
        )

    def read_client(self) -> BigQueryReadClient | None:
        """A new client of BigQuery's Storage Read API; None where an emulator has none.

        Raises:
            ConfigError: as `credentials` does.
            Unavailable: as `credentials` does.
        """
        # Imported here: it takes a second, and only large results need it.
        from google.cloud.bigquery_storage import BigQueryReadClient

        if self.bigquery_emulator is None:
            return BigQueryReadClient(credentials=self.google_credentials())  # type: ignore[no-untyped-call]
        if self.storage_read_emulator is None:
            return None
        import grpc
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

        # As the client's own channels have it: a message holds many rows.
        channel = grpc.insecure_channel(self.storage_read_emulator, options=[("grpc.max_receive_message_length", -1)])
        return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))  # type: ignore[no-untyped-call]

    def publisher_client(self) -> PublisherClient:
        """A new client of Pub/Sub's topics.

        Raises:
            ConfigError: as `credentials` does.
            Unavailable: as `credentials` does.
        """
        # Imported here: slow, and only where events are published.
        from google.pubsub_v1 import PublisherClient

        if self.pubsub_emulator is None:
            return PublisherClient(credentials=self.google_credentials())
        import grpc
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

        return PublisherClient(transport=PublisherGrpcTransport(channel=grpc.insecure_channel(self.pubsub_emulator)))

    def subscriber_client(self) -> SubscriberClient:
        """A new client of Pub/Sub's subscriptions.

        Raises:
            ConfigError: as `credentials` does.
            Unavailable: as `credentials` does.
        """
        # Imported here: slow, and only where notifications are used.
        from google.pubsub_v1 import SubscriberClient

        if self.pubsub_emulator is None:
            return SubscriberClient(credentials=self.google_credentials())
        import grpc
        from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

        return SubscriberClient(transport=SubscriberGrpcTransport(channel=grpc.insecure_channel(self.pubsub_emulator)))

    def verify(self, request: Callable[..., Any] | None = None) -> None:
        """Have a token issued now. Everything before this only shows that credentials are well formed.

        Args:
            request: transport of the call, as google-auth has them; default: over the network.

        Raises:
            ConfigError: no token is issued: a deleted key, an expired login, no right to impersonate.
            Unavailable: the service that issues tokens doesn't answer.
        """
        credentials = self.credentials()
        if isinstance(credentials, AnonymousCredentials):
            return
        try:
            credentials.refresh(request or Request())  # type: ignore[no-untyped-call]
        except auth.GoogleAuthError as error:
            raise self.explain(error) from None

    def explain(self, error: auth.GoogleAuthError) -> DataOpsError:
        """The error to raise for one of google-auth's, met in any call with these credentials."""
        reason = brief(error)
        if isinstance(error, auth.TransportError):
            return Unavailable(f"Google's token service doesn't answer: {reason}")
        if self.impersonate and reason.startswith("Unable to acquire impersonated credentials"):
            chain = " → ".join(self.impersonate)
            return ConfigError(
                f"{IMPERSONATE}: {chain} can't be impersonated. Grant roles/iam.serviceAccountTokenCreator on each"
                " account to the one before it, the first to the platform's own identity, and turn on"
                f" iamcredentials.googleapis.com. ({_details(error)})"
            )
        if self.key is not None:
            return ConfigError(
                f"{self.key.where}: Google doesn't accept these credentials: {reason}. Is the key deleted or disabled,"
                " or this machine's clock wrong? Make a new key, or use Workload Identity."
            )
        return ConfigError(
            f"Google doesn't accept the Application Default Credentials: {reason}. They may have expired: run"
            f" `gcloud auth application-default login`; on Kubernetes, check Workload Identity; or set {CREDENTIALS}."
        )

    def describe(self) -> Description:
        """Who this is, without a call to Google where that is possible. Never key material.

        Raises:
            ConfigError: as `credentials` does.
            Unavailable: as `credentials` does.
        """
        if isinstance(self.credentials(), AnonymousCredentials):
            emulators = (
                ("STORAGE_EMULATOR_HOST", self.storage_emulator),
                ("BIGQUERY_EMULATOR_HOST", self.bigquery_emulator),
            )
            return Description("anonymous", ", ".join(name for name, url in emulators if url))
        source = self._source()
        return Description(
            kind=_kind(source),
            source=self.key.where if self.key else "Application Default Credentials",
            email=_email(source),
            impersonates=self.impersonate,
        )

    def _for(self, emulator: str | None) -> Credentials:
        if emulator and not self.explicit:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        return self.google_credentials()

    def _source(self) -> Credentials:
        key = self.key
        return self._once("source", application_default if key is None else lambda: _from_key(key))

    def _impersonating(self) -> Credentials:
        *delegates, target = self.impersonate
        try:
            return impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
                source_credentials=self._source(),
                target_principal=target,
                target_scopes=[SCOPE],
                # The service knows delegates by resource name only.
                delegates=[f"projects/-/serviceAccounts/{email}" for email in delegates],
            )
        except auth.GoogleAuthError as error:
            raise self.explain(error) from None

    def _once(self, name: str, make: Callable[[], Credentials]) -> Credentials:
        # Two threads may both make them; one wins, and neither is wrong.
        return self._made[name] if name in self._made else self._made.setdefault(name, make())


# -- Settings ---------------------------------------------------------------------------------------------------------


def _key(variables: Variables) -> Secret | None:
    text = variables.raw(CREDENTIALS).strip()
    if text.startswith(("/", "~", "./", "../")) or (text.endswith(".json") and "://" not in text):
        # A path is no secret: messages must show it.
        return Secret(CREDENTIALS, "file://" + quote(str(Path(text).expanduser().absolute())))
    key = variables.secret(CREDENTIALS)
    if key is not None and not key.is_reference:
        # It is in the environment, where anyone's code may read it: its parts are hidden now, not with the first use.
        # What is wrong with it is said then.
        with suppress(ConfigError):
            _document(key)
    return key


def _chain(text: str) -> tuple[str, ...]:
    emails = tuple(email.strip() for email in text.split(",")) if text.strip() else ()
    for email in emails:
        if not _E_MAIL.fullmatch(email):
            raise ConfigError(
                f"{IMPERSONATE} is {text!r}: {email!r} is no service account; write its e-mail, like"
                " platform@project.iam.gserviceaccount.com"
            )
    return emails


def _url(setting: str, variables: Mapping[str, str]) -> str | None:
    text = variables.get(setting)
    if not text:
        return None
    if urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).netloc:
        raise ConfigError(f"{setting} is {text!r}: write a URL, like http://127.0.0.1:4443")
    return text


# -- Credentials ------------------------------------------------------------------------------------------------------


def _from_key(key: Secret) -> Credentials:
    info = _document(key)
    kind = info.get("type")
    if kind not in ("service_account", "external_account"):
        advice = {
            "authorized_user": f"It is a person's login: leave {CREDENTIALS} empty, and the login is found where"
            " `gcloud auth application-default login` put it.",
            "impersonated_service_account": f"Name the service account in {IMPERSONATE} instead.",
        }
        raise ConfigError(
            f"{key.where}: credentials of type {kind!r} can't be used here, only service_account and external_account."
            f" {advice.get(str(kind), 'Download the key of a service account.')}"
        )
    try:
        if kind == "external_account":
            return _federated(info)
        made: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            info, scopes=[SCOPE]
        )
    except (auth.GoogleAuthError, ValueError, TypeError, KeyError, AttributeError) as error:
        # Not chained: the exceptions of parsers carry what they parse.
        raise ConfigError(
            f"{key.where}: the JSON of type {kind} can't be used: {brief(error)}."
            " Download it again; it must be complete."
        ) from None
    return made


def _document(key: Secret) -> dict[str, Any]:
    """The JSON of the credentials. From now on it is hidden, in whole and in parts."""
    text = key.reveal().strip()
    try:
        if not text.startswith("{"):
            packed = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
            text = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode()
            hide(text)
        info = json.loads(text)
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise ConfigError(
            f"{key.where} holds no credentials: write the JSON of a service account key or of an external account,"
            " the same in base64, the absolute path of its file, or sm://project/name"
        )
    # The parts turn up alone, in errors of the libraries that use them.
    for name in ("private_key", "client_secret"):
        if isinstance(info.get(name), str):
            hide(info[name])
    return info


def _federated(info: dict[str, Any]) -> Credentials:
    missing = [name for name in ("audience", "subject_token_type", "token_url") if not info.get(name)]
    if missing:  # google-auth would notice with the first call
        raise ValueError(f"missing fields {', '.join(missing)}")
    # As google-auth chooses, but without its call to the resource manager for the project's name.
    kind: Any = identity_pool.Credentials
    if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
        kind = aws.Credentials
    elif "executable" in (info.get("credential_source") or {}):
        kind = pluggable.Credentials
    made: Credentials = kind.from_info(info, scopes=[SCOPE])
    return made


def _kind(credentials: Credentials) -> str:
    for made, words in (
        (service_account.Credentials, "service account key"),
        (external_account.Credentials, "federated workload"),
        (compute_engine.Credentials, "attached service account"),
        (impersonated_credentials.Credentials, "impersonated service account"),
        (user_login.Credentials, "person's login"),
    ):
        if isinstance(credentials, made):
            return words
    return type(credentials).__name__


def _email(credentials: Credentials) -> str | None:
    # The metadata server's "default" has its e-mail only after the first token.
    email = getattr(credentials, "service_account_email", None) or getattr(credentials, "account", None)
    return str(email) if email and email != "default" else None


# -- Clients and messages ---------------------------------------------------------------------------------------------


@functools.cache
def _user_agent() -> str:
    try:
        return f"dataops-platform/{version('dataops-platform')}"
    except PackageNotFoundError:  # a checkout that isn't installed
        return "dataops-platform/0"


def _client_info() -> ClientInfo:
    return ClientInfo(user_agent=_user_agent())  # type: ignore[no-untyped-call]  # anew: clients write into it


def _options(emulator: str | None) -> dict[str, str] | None:
    return {"api_endpoint": emulator} if emulator else None


def _details(error: Exception) -> str:
    return " ".join(redact(" ".join(map(str, error.args[1:]))).split())[:300] or "no details"
