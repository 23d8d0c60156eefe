"""How a plant's stream gets in at its broker: user and password from the plant's own secrets, TLS by certificate.

The one idea: a source description never holds a secret; what is looked up is named after plant and stream.
"""

from __future__ import annotations

import os
import ssl

from cluster.credentials import from_files, prefixed
from cluster.home import Home
from models.errors import InputError
from models.live import LiveStream


def user_and_password(home: Home, plant: str, live: LiveStream) -> tuple[str | None, str | None]:
    """From the environment or the file that the plant's ``credentials`` names; None where there is neither.

    Raises InputError where only one of the two is there.
    """
    own = home.only(plant)
    settings = own.settings.plants.get(plant)
    prefix = settings.credentials if settings and settings.credentials and settings.credentials.endswith("_") else ""
    known = prefixed(own, os.environ) | from_files(own)
    name = f"{prefix}{live.name.upper()}"
    user, password = known.get(f"{name}_USER"), known.get(f"{name}_PASSWORD")
    if (user is None) != (password is None):
        missing = "PASSWORD" if password is None else "USER"
        raise InputError(
            f"Half of the credentials of {live.name!r}", expected=f"{name}_USER and {name}_PASSWORD",
            found=f"no {name}_{missing}", where=f"plant {plant}", do="Set both, or neither",
        )  # fmt: skip
    return user, password


def tls(live: LiveStream) -> ssl.SSLContext | None:
    """The broker's certificate is checked always. Raises InputError where the authority's file cannot be read."""
    if not live.tls:
        return None
    try:
        return ssl.create_default_context(cafile=live.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "Unusable certificate of an authority", expected="a PEM file", found=str(error), where=live.ca_file,
            do="Correct `ca_file` in the source description",
        ) from error  # fmt: skip
