"""The code location that Dagster loads (see workspace.yaml)."""

from dataops_platform import assets
from dataops_platform.orchestration.build import build_definitions
from dataops_platform.orchestration.errors import clean_errors
from dataops_platform.settings import Settings

with clean_errors():
    defs = build_definitions(Settings.load(), own_assets=assets)
