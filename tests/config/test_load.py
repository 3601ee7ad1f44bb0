"""From file, environment and flags to a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from trimaran.config.check import check
from trimaran.config.load import Loaded, load
from trimaran.config.model import Bind, Count, Remote
from trimaran.errors import ConfigError

BAD = {
    "no toml": ("app = ", ["is not TOML"]),
    "unknown key": ("colour = 1", ["colour", "there is no such setting"]),
    "near miss": ("[gateway]\nbnd = []", ["gateway.bnd", "did you mean bind?"]),
    "unknown key in a pool": ("[pools.a]\nap = 'a:b'", ["pools.a.ap", "did you mean app?"]),
    "wrong type": ("[gateway]\nthreads = 'many'", ["gateway.threads", "'many'", "a whole number"]),
    "truth is no number": ("[gateway]\nthreads = true", ["gateway.threads", "a whole number"]),
    "a fraction": ("[gateway]\nthreads = 1.5", ["gateway.threads", "1.5", "a whole number"]),
    "too small": ("[servers]\nthreads = 0", ["servers.threads", "from 1 to 512"]),
    "too large": ("[gateway]\nhead_max_bytes = 99999999", ["gateway.head_max_bytes", "from 1024 to 1.04858e+06"]),
    "a unit": ("[servers]\nqueue_timeout_ms = '10s'", ["servers.queue_timeout_ms", "'10s'", "a whole number"]),
    "unknown policy": ("[servers]\nbalance = 'luck'", ["servers.balance", "'luck'", "round_robin"]),
    "bad address": ("[gateway]\nbind = ['nowhere:port']", ["gateway.bind", "127.0.0.1:8000"]),
    "bad range": ("[servers]\ncount = '8..2'", ["servers.count", "'8..2'", "2..8"]),
    "table for a value": ("[app]\nx = 1", ["app", "a text in quotes"]),
    "value for a table": ("gateway = 1", ["gateway", "a table"]),
    "missing directory": ("app = 'a:b'\ndirectory = 'nowhere'", ["directory", "'nowhere'", "existing directory"]),
}
UNFIT = {
    "nothing to run": ("", ["app", "mysite.wsgi:application"]),
    "no server": ("[servers]\napp = 'a:b'\ncount = 0", ["servers.count", "at least one"]),
    "app is no name": ("app = 'a b'", ["servers.app", "module:attribute"]),
    "route to nowhere": ("app = 'a:b'\n[[routes]]\npool = 'b'", ["routes[0].pool", "'b'", "app"]),
    "route without slash": ("app = 'a:b'\n[[routes]]\npath = 'x'", ["routes[0].path", "begins with /"]),
    "strange host": ("app = 'a:b'\n[[routes]]\nhost = 'a b'", ["routes[0].host", "*.example.com"]),
    "http check without path": ("app = 'a:b'\n[servers.health]\ncheck = 'http'", ["servers.health.path", "/healthz"]),
    "statuses": ("app = 'a:b'\n[servers.health]\nexpect = 'good'", ["servers.health.expect", "200-399"]),
    "open admin": ("app = 'a:b'\n[admin]\nbind = ':8001'", ["admin.bind", "token"]),
    "twice the same address": (
        "app = 'a:b'\n[gateway]\nbind = ['127.0.0.1:1', '127.0.0.1:1']",
        ["gateway.bind", "twice"],
    ),
    "pool named like a path": ("[pools.'../x']\napp = 'a:b'\n[[routes]]\npool = '../x'", ["pools.../x", "letters"]),
    "network": ("app = 'a:b'\n[gateway]\ntrusted_proxies = ['10/99']", ["gateway.trusted_proxies", "10.0.0.0/8"]),
    "limit by what": (
        "app = 'a:b'\n[[gateway.rate_limits]]\nby = 'face'",
        ["gateway.rate_limits[0].by", "header:NAME"],
    ),
    "limit where": (
        "app = 'a:b'\n[[gateway.rate_limits]]\npath = 'x'",
        ["gateway.rate_limits[0].path", "begins with /"],
    ),
    "https by socket": ("app = 'a:b'\n[gateway.tls]\nbind = ['unix:/x']", ["gateway.tls.bind", ":443"]),
    "hash": ("app = 'a:b'\n[servers]\nhash_by = 'header:'", ["servers.hash_by", "header:NAME"]),
}


def _load(directory: Path, text: str, environ: dict[str, str] | None = None, **flags: str) -> Loaded:
    file = directory / "trimaran.toml"
    file.write_text(text)
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return load(file, environ=environ or {}, flags=given)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    said = str(caught.value)
    assert "trimaran.toml" in said
    assert [word for word in words if word not in said] == []


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    text, words = UNFIT[name]
    said = "\n".join(map(str, check(_load(tmp_path, text))))
    assert "trimaran.toml" in said
    assert [word for word in words if word not in said] == []


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    problems = check(_load(tmp_path, "app = 'a b'\n[servers]\nhash_by = 'x'\n[admin]\nbind = ':1'"))
    assert [problem.key for problem in problems] == ["servers.app", "servers.hash_by", "admin.bind"]


def test_defaults_are_enough(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "app = 'mysite.wsgi:application'")
    assert check(loaded) == []
    assert loaded.config.gateway.bind == (Bind("127.0.0.1", 8000),)
    assert loaded.config.all_pools()["app"].app == "mysite.wsgi:application"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml.*there is no such file.*trimaran init"):
        load(tmp_path / "absent.toml", environ={}, flags={})


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    text = "app = 'a:b'\n[servers]\ncount = 2\nthreads = 2\nbalance = 'random'"
    environ = {"TRIMARAN_SERVERS_COUNT": "3..5", "TRIMARAN_SERVERS_THREADS": "3", "UNRELATED": "x"}
    servers = _load(tmp_path, text, environ, servers__count="7").config.servers
    assert (servers.count, servers.threads, servers.balance) == (Count(7, 7), 3, "random")


def test_the_environment_reaches_into_named_tables_that_the_file_has(tmp_path: Path) -> None:
    text = "app = 'a:b'\n[databases.main]\nreplicas = 1\n[databases.side-tables]\n[databases.side-tables.reads]\nsplit = false"
    environ = {
        "TRIMARAN_DATABASES_MAIN_NODES": "postgresql://a@b/c, postgresql://a@d/c",
        "TRIMARAN_DATABASES_SIDE_TABLES_READS_WAIT_MS": "7",
        "TRIMARAN_DATABASES_OTHER_REPLICAS": "4",
    }
    databases = _load(tmp_path, text, environ).config.databases
    assert databases["main"].nodes == ("postgresql://a@b/c", "postgresql://a@d/c")
    assert databases["main"].replicas == 1
    assert (databases["side-tables"].reads.wait_ms, databases["side-tables"].reads.split) == (7, False)
    twins = "app = 'a:b'\n[pools.a-b]\napp = 'a:b'\n[pools.a_b]\napp = 'a:b'"
    assert set(_load(tmp_path, twins, {}).config.pools) == {"a-b", "a_b"}
    with pytest.raises(ConfigError, match=r"TRIMARAN_POOLS_A_B_THREADS.*pools\.a-b\.threads is another"):
        _load(tmp_path, twins, {"TRIMARAN_POOLS_A_B_THREADS": "3"})
    with pytest.raises(ConfigError, match=r"TRIMARAN_DATABASES_MAIN_BIND.*databases\.main\.bind"):
        _load(tmp_path, text, {"TRIMARAN_DATABASES_MAIN_BIND": "here"})


@pytest.mark.parametrize(
    ("environ", "flags", "words"),
    [
        ({"TRIMARAN_SERVERS_THREADS": "x"}, {}, ["environment variable TRIMARAN_SERVERS_THREADS", "servers.threads"]),
        ({}, {"servers__threads": "x"}, ["command line", "servers.threads"]),
    ],
)
def test_where_a_bad_value_came_from_is_said(
    tmp_path: Path, environ: dict[str, str], flags: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, "app = 'a:b'", environ, **flags)
    assert [word for word in words if word not in str(caught.value)] == []


def test_pools_inherit_from_servers(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        """
app = "a:b"
[servers]
threads = 9
addresses = ["10.0.0.1:80"]
[servers.health]
path = "/up"
rise = 5
[pools.other]
app = "c:d"
[pools.other.health]
rise = 1
[[routes]]
path = "/other"
pool = "other"
[[routes]]
""",
    )
    other = loaded.config.all_pools()["other"]
    assert (other.app, other.threads, other.addresses) == ("c:d", 9, ())
    assert (other.health.path, other.health.rise) == ("/up", 1)
    assert loaded.config.servers.addresses == (Remote(Bind("10.0.0.1", 80)),)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.chdir("/")
    loaded = _load(tmp_path, "app = 'a:b'\ndirectory = 'site'")
    assert (loaded.directory, loaded.state_directory) == (tmp_path / "site", tmp_path / ".trimaran")


@pytest.mark.parametrize(
    ("database", "key", "words"),
    [
        ("nodes = []", "databases.main.nodes", "DSNs"),
        ('nodes = ["mysql://host/name"]', "databases.main.nodes[0]", "expected a DSN"),
        ('nodes = ["postgresql://h/n", "postgresql://h/n"]', "databases.main.nodes", "twice"),
        ('nodes = ["postgresql://h/n"]\nreplicas = 1', "databases.main.replicas", "embedded nodes only"),
    ],
)
def test_databases_that_do_not_fit(tmp_path: Path, database: str, key: str, words: str) -> None:
    loaded = _load(tmp_path, f"app = 'a:b'\n[databases.main]\n{database}")
    found = [problem for problem in check(loaded) if problem.key == key]
    assert len(found) == 1
    assert words in str(found[0])


def test_a_dsn_that_is_wrong_is_not_repeated(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "app = 'a:b'\n[databases.main]\nnodes = ['mysql://user:secret@host/name']")
    assert "secret" not in " ".join(map(str, check(loaded)))
