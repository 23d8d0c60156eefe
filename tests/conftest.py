"""What tests share: a home in a temporary folder, and one local Ray for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from cluster.home import Home, open_home
from cluster.session import ray_session

RAY_CPUS = 2

# A test that takes long on a busy machine is not wrong.
hypothesis.settings.register_profile("millwright", deadline=None)
hypothesis.settings.load_profile("millwright")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home", create=True, environment={})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a trial; threads that wait for each other make small tensors slow, and sums in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray is up; a job's own ``ray_session`` inside the test changes nothing."""
    path = tmp_path_factory.mktemp("ray") / "home"
    home = open_home(path, create=True, environment={}, assignments=[f"ray.num_cpus={RAY_CPUS}"])
    with ray_session(home):
        yield
