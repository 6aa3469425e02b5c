"""What becomes of an error in a step of the platform."""

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from dataops_platform.contracts.problems import DataRefused, Unavailable
from dataops_platform.orchestration.errors import REFUSED, user_errors
from dataops_platform.secrets import hide
from dataops_platform_tests.planted import PLANTED, nothing_known


@pytest.fixture(autouse=True)
def _planted():
    with nothing_known():
        hide(PLANTED)
        yield


def test_an_unknown_error_with_a_secret_is_a_copy_of_the_same_name():
    with pytest.raises(Exception, match=r"^<\*\*\*>$") as caught, user_errors():
        raise LookupError(f"<{PLANTED}>") from OSError(PLANTED)
    assert type(caught.value).__name__ == "LookupError"
    assert str(caught.value.__cause__) == "***"


def test_an_error_without_secrets_is_the_same_error():
    error = LookupError("harmless")
    with pytest.raises(LookupError) as caught, user_errors():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "refused", "again"),
    [(DataRefused(f"<{PLANTED}>"), True, False), (Unavailable(f"<{PLANTED}>"), False, True)],
)
def test_a_users_error_is_a_message_without_its_secret(error, refused, again):
    with pytest.raises(dg.Failure) as caught, user_errors():
        raise error
    failure = caught.value
    assert (failure.description, failure.metadata[REFUSED].value, failure.allow_retries) == ("<***>", refused, again)
    assert failure.__suppress_context__


@pytest.mark.parametrize(
    "error",
    [
        dg.Failure(PLANTED),
        dg.RetryRequested(seconds_to_wait=1),
        DagsterExecutionInterruptedError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_dagster_reacts_to_passes(error):
    with pytest.raises(type(error)) as caught, user_errors():
        raise error
    assert caught.value is error
