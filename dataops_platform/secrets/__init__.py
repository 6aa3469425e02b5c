"""Secret values: where settings get them from, and how they stay out of what is written down.

The value of any setting may be `sm://project/name[#version]`: what Google's Secret Manager holds under that name, by
default its latest version. A setting that is a secret may be `file:///run/secrets/name` too: a mounted file. Anything
else is the value itself. One trailing newline of a file or of Secret Manager's answer is dropped. There is no second
variable like `NAME_FILE`: one setting, one place to look.

What was read so is read once per process: a rotated secret needs a restart.
"""

from dataops_platform.secrets.errors import without_secrets
from dataops_platform.secrets.manager import SCOPE, SecretManager, application_default
from dataops_platform.secrets.output import install_redaction
from dataops_platform.secrets.redaction import brief, hide, knows_secrets, redact
from dataops_platform.secrets.values import Secret, Variables
from dataops_platform.secrets.withholding import withheld

__all__ = [
    "SCOPE",
    "Secret",
    "SecretManager",
    "Variables",
    "application_default",
    "brief",
    "hide",
    "install_redaction",
    "knows_secrets",
    "redact",
    "withheld",
    "without_secrets",
]
