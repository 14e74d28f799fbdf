"""Settings: where they come from, and that every mistake is reported at once with its remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from src.config import Settings, load_settings, setting_names
from src.models.errors import ConfigurationError

ADDRESS = "0x" + "Ab" * 20


def problems(directory: Path, **environ: str) -> list[str]:
    """The lines of the error that these settings cause; empty when they are fine."""
    try:
        load_settings(directory, environ)
    except ConfigurationError as error:
        first, *lines = str(error).splitlines()
        assert first == "wrong settings:"
        return [line.strip() for line in lines]
    return []


def write(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text, encoding="utf-8")


class TestSources:
    def test_nothing_written_means_defaults(self, tmp_path):
        settings = load_settings(tmp_path, {})
        assert settings.http_port == 8002
        assert settings.hyperliquid_coins == ("BTC", "ETH", "SOL")
        assert settings.mongodb_uri.get_secret_value() == ""
        assert settings.notices == ()

    def test_environment_wins_over_local_file_over_file(self, tmp_path):
        write(tmp_path, ".env", "HTTP_PORT=1\nHTTP_HOST=localhost\nLOG_LEVEL=error\n")
        write(tmp_path, ".env.local", "HTTP_PORT=2\nLOG_LEVEL=warning\n")
        settings = load_settings(tmp_path, {"HTTP_PORT": "3"})
        assert (settings.http_port, settings.log_level, settings.http_host) == (3, "warning", "localhost")

    def test_the_process_environment_is_the_default(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HTTP_PORT", "4321")
        monkeypatch.chdir(tmp_path)
        assert load_settings().http_port == 4321

    def test_a_settings_object_made_in_code_ignores_the_environment(self, monkeypatch):
        monkeypatch.setenv("HTTP_PORT", "4321")
        assert Settings().http_port == 8002
        assert Settings(http_port=5).http_port == 5

    def test_quotes_comments_export_dollar_and_byte_order_mark(self, tmp_path):
        write(
            tmp_path,
            ".env.local",
            "\ufeff# secrets\nexport API_TOKEN='a$b{c}#d'\nMONGODB_DATABASE = trial # comment\nHYPERLIQUID_COINS=\"BTC, ETH\"\n",
        )
        settings = load_settings(tmp_path, {})
        assert settings.api_token.get_secret_value() == "a$b{c}#d"
        assert settings.mongodb_database == "trial"
        assert settings.hyperliquid_coins == ("BTC", "ETH")

    def test_relative_data_directory_belongs_to_the_directory_of_the_files(self, tmp_path):
        assert load_settings(tmp_path, {}).data_dir == tmp_path / "data"
        assert load_settings(tmp_path, {"DATA_DIR": "/srv/x"}).data_dir == Path("/srv/x")
        assert load_settings(tmp_path, {"DATA_DIR": "~/x"}).data_dir == Path.home() / "x"

    def test_unreadable_lines_and_files(self, tmp_path):
        write(tmp_path, ".env", "HTTP_PORT=1\n=5\nLOG_LEVEL\n")
        (tmp_path / ".env.local").write_bytes(b"\xff\xfe\x00")
        found = problems(tmp_path)
        assert len(found) == 3
        assert found[0].startswith(".env line 2:")
        assert found[1].startswith(".env line 3:")
        assert found[2].startswith(".env.local: cannot be read")

    def test_a_directory_in_place_of_a_file(self, tmp_path):
        (tmp_path / ".env").mkdir()
        assert problems(tmp_path)[0].startswith(".env: cannot be read")

    def test_settings_cannot_be_changed_by_accident(self):
        with pytest.raises(ValidationError):
            Settings().http_port = 5


class TestEveryMistakeAtOnce:
    def test_name_value_place_and_remedy_of_each(self, tmp_path):
        write(tmp_path, ".env", "HTTP_PORT=99999\nTRADER_WS_CLIENT=3\n")
        write(tmp_path, ".env.local", "LOG_LEVEL=loud\nRUBBISH=1\n")
        found = problems(
            tmp_path,
            DIFF_INTERVAL="soon",
            HYPERLIQUID_WS_URL="https://x",
            HTTP_HOST="0.0.0.0",
            TRADER_WS_ENABLED="perhaps",
        )
        expected = [
            ("TRADER_WS_CLIENT (.env)", "did you mean TRADER_WS_CLIENTS?"),
            ("RUBBISH (.env.local)", "docs/settings.md"),
            ("HTTP_PORT=99999 (.env)", "65535"),
            ("LOG_LEVEL=loud (.env.local)", "'debug', 'info', 'warning' or 'error'"),
            ("HYPERLIQUID_WS_URL=https://x (environment)", "wss://"),
            ("TRADER_WS_ENABLED=perhaps (environment)", "boolean"),
            ("DIFF_INTERVAL=soon (environment)", "default: 0.1"),
            ("HTTP_HOST=0.0.0.0", "API_TOKEN"),
        ]
        assert len(found) == len(expected)
        for start, part in expected:
            (line,) = (line for line in found if line.startswith(start))
            assert part in line

    @pytest.mark.parametrize("value", ["", "  "])
    @pytest.mark.parametrize("name", ["HTTP_PORT", "DIFF_INTERVAL", "HYPERLIQUID_ENABLED", "DATA_DIR", "LOG_FORMAT"])
    def test_an_empty_value_is_called_empty(self, tmp_path, name, value):
        (line,) = problems(tmp_path, **{name: value})
        assert "is empty" in line

    def test_secrets_never_show(self, tmp_path):
        found = problems(
            tmp_path,
            API_TOKEN="hunter2 hunter2",
            MONGODB_URI="postgres://root:hunter2@db",
            HYPERLIQUID_EGRESS="socks5://me:hunter2@proxy",
            HYPERLIQUID_PRIVATE_KEY="hunter2",
            HYPERLIQUID_API_URL="ftp://me:hunter2@host",
        )
        assert len(found) == 5
        assert "hunter2" not in "\n".join(found)

    def test_long_values_are_cut(self, tmp_path):
        (line,) = problems(tmp_path, HTTP_PORT="9" * 5000)
        assert len(line) < 300

    def test_secrets_do_not_show_in_the_settings_object_either(self, tmp_path):
        settings = load_settings(
            tmp_path,
            {
                "API_TOKEN": "hunter2hunter2hunter2",
                "MONGODB_URI": "mongodb://u:hunter2@h",
                "HYPERLIQUID_EGRESS": "http://u:hunter2@p",
            },
        )
        assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()

    @given(st.dictionaries(st.sampled_from(setting_names()), st.text(max_size=40), max_size=8))
    def test_whatever_is_written_it_is_settings_or_one_clear_error(self, written):
        try:
            load_settings(Path("/nonexistent"), written)
        except ConfigurationError as error:
            told = str(error).splitlines()
        else:
            told = ["fine", "fine"]
        assert len(told) > 1


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("HYPERLIQUID_COIN", "did you mean HYPERLIQUID_COINS?"),
            ("MONGODB_URL", "did you mean MONGODB_URI?"),
            ("TRADER_ORDERS_FLUSH_INTERVAL", "did you mean TRADER_ORDERS_WS_FLUSH_INTERVAL?"),
            ("HTTP_PORTS", "did you mean HTTP_PORT?"),
        ],
    )
    def test_ours_in_the_environment(self, tmp_path, name, told):
        (line,) = problems(tmp_path, **{name: "secret?"})
        assert line.startswith(f"{name} (environment)")
        assert told in line
        assert "secret?" not in line

    def test_lower_case_names_are_pointed_out(self, tmp_path):
        write(tmp_path, ".env.local", "http_port=5\n")
        assert "did you mean HTTP_PORT?" in problems(tmp_path)[0]

    def test_names_of_others_in_the_environment_are_left_alone(self, tmp_path):
        others = {"PATH": "/bin", "HTTP_PROXY": "http://p", "HTTPS_PROXY": "http://p", "LOG": "x", "DATA": "y"}
        assert problems(tmp_path, **others) == []

    def test_variables_that_kubernetes_adds_for_services_are_left_alone(self, tmp_path):
        added = {
            "MONGODB_SERVICE_HOST": "10.0.0.1",
            "MONGODB_SERVICE_PORT": "27017",
            "MONGODB_SERVICE_PORT_MONGO": "27017",
            "MONGODB_PORT": "tcp://10.0.0.1:27017",
            "MONGODB_PORT_27017_TCP": "tcp://10.0.0.1:27017",
            "MONGODB_PORT_27017_TCP_ADDR": "10.0.0.1",
        }
        assert problems(tmp_path, **added) == []


class TestValues:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("", ()),
            ("BTC", ("BTC",)),
            (" BTC , ,ETH,BTC,", ("BTC", "ETH")),
            ("kPEPE,@107,PURR/USDC,xyz:TSLA,#12", ("kPEPE", "@107", "PURR/USDC", "xyz:TSLA", "#12")),
        ],
    )
    def test_coins(self, tmp_path, written, read):
        assert load_settings(tmp_path, {"HYPERLIQUID_COINS": written}).hyperliquid_coins == read

    @pytest.mark.parametrize(
        ("written", "told"),
        [
            ("btc", "did you mean BTC?"),
            ("kpepe", "did you mean KPEPE or kPEPE?"),
            ('["BTC"]', "write BTC"),
            ("BTC;ETH", "write BTC"),
            ("$where", "write BTC"),
        ],
    )
    def test_coins_that_are_none(self, tmp_path, written, told):
        (line,) = problems(tmp_path, HYPERLIQUID_COINS=written)
        assert told in line

    def test_every_wrong_coin_is_named(self, tmp_path):
        (line,) = problems(tmp_path, HYPERLIQUID_COINS="btc,ETH,sol")
        assert "'btc'" in line
        assert "'sol'" in line
        assert "'ETH'" not in line

    def test_addresses_in_lower_case_once(self, tmp_path):
        settings = load_settings(tmp_path, {"HYPERLIQUID_TRADERS": f"{ADDRESS},{ADDRESS.lower()}"})
        assert settings.hyperliquid_traders == (ADDRESS.lower(),)

    @pytest.mark.parametrize("address", ["0x12", ADDRESS + "0", ADDRESS[2:], "0x" + "g" * 40, "vitalik.eth"])
    def test_addresses_that_are_none(self, tmp_path, address):
        (line,) = problems(tmp_path, HYPERLIQUID_TRADERS=f"{ADDRESS},{address}")
        assert "40 hexadecimal digits" in line

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("HYPERLIQUID_WS_URL", "ws://127.0.0.1:9000/ws"),
            ("HYPERLIQUID_API_URL", "http://127.0.0.1:9000"),
            ("MONGODB_URI", "mongodb://u:p%40ss@a:27017,b:27018/?replicaSet=rs0"),
            ("MONGODB_URI", "mongodb+srv://cluster.example.net"),
            ("HYPERLIQUID_EGRESS", "direct"),
            ("HYPERLIQUID_EGRESS", "http://user:pass@proxy:3128"),
            ("HYPERLIQUID_TRADER_FEED", "webData2"),
            ("HTTP_HOST", "::1"),
            ("HTTP_PORT", "0"),
            ("TRADER_WS_CLIENTS", "10"),
            ("ORDERBOOK_SNAPSHOT_DAYS", "0"),
            ("STATUS_LINE_INTERVAL", "0"),
            ("LOG_LEVEL", "DEBUG"),
            ("HYPERLIQUID_DEXES", "xyz,flx"),
            ("TRADER_WS_ENABLED", "no"),
        ],
    )
    def test_accepted(self, tmp_path, name, value):
        assert problems(tmp_path, **{name: value}) == []

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("HYPERLIQUID_WS_URL", "wss://", "no usable host"),
            ("HYPERLIQUID_WS_URL", "wss://host:99999999", "not a URL"),
            ("HYPERLIQUID_API_URL", "wss://host", "https://"),
            ("HYPERLIQUID_API_URL", "api.hyperliquid.xyz", "https://"),
            ("MONGODB_URI", "localhost:27017", "mongodb://"),
            ("MONGODB_URI", "mongodb://", "names no host"),
            ("MONGODB_DATABASE", "a.b", "letters"),
            ("MONGODB_DATABASE", "", "is empty"),
            ("MONGODB_CACHE_GB", "0.1", "0.25"),
            ("HYPERLIQUID_EGRESS", "direct,http://p:1,direct", "names one way twice"),
            ("HYPERLIQUID_EGRESS", "", "is empty"),
            ("HYPERLIQUID_EGRESS", "socks5://p:1", "http://"),
            ("HYPERLIQUID_TRADER_FEED", "webdata2", "'webData2'"),
            ("HYPERLIQUID_DEXES", "XYZ", "builder dex"),
            ("TRADER_WS_CLIENTS", "0", "greater than or equal to 1"),
            ("TRADER_WS_CLIENTS", "11", "less than or equal to 10"),
            ("TRADER_ORDERS_WS_FLUSH_INTERVAL", "0", "greater than"),
            ("DIFF_INTERVAL", "-1", "greater than"),
            ("DIFF_INTERVAL", "inf", "finite"),
            ("ORDERBOOK_SNAPSHOT_DAYS", "1.5", "integer"),
            ("HTTP_HOST", "http://0.0.0.0", "without scheme"),
            ("HTTP_HOST", "127.0.0.1:80", "without scheme"),
            ("HTTP_HOST", "300.0.0.1", "host name"),
            ("API_TOKEN", "two words", "ASCII"),
            ("API_TOKEN", "täglich", "ASCII"),
            ("ALLOWED_ORIGINS", "*", "name the origins"),
            ("ALLOWED_ORIGINS", "https://a.example/path", "more than an origin"),
            ("ALLOWED_ORIGINS", "a.example", "https://"),
        ],
    )
    def test_refused(self, tmp_path, name, value, told):
        (line,) = problems(tmp_path, **{name: value})
        assert line.startswith(f"{name}=")
        assert told in line

    def test_origins_are_compared_in_lower_case_without_slash(self, tmp_path):
        settings = load_settings(tmp_path, {"ALLOWED_ORIGINS": "https://Desk.Example:8443/, http://localhost:3000"})
        assert settings.allowed_origins == ("https://desk.example:8443", "http://localhost:3000")

    def test_a_file_cannot_be_the_data_directory(self, tmp_path):
        write(tmp_path, "taken", "")
        (line,) = problems(tmp_path, DATA_DIR=str(tmp_path / "taken"))
        assert "is a file" in line

    def test_proxy(self, tmp_path):
        assert load_settings(tmp_path, {}).hyperliquid_proxy is None
        proxy = load_settings(tmp_path, {"HYPERLIQUID_EGRESS": "http://u:p@proxy:3128"}).hyperliquid_proxy
        assert isinstance(proxy, SecretStr)
        assert proxy.get_secret_value() == "http://u:p@proxy:3128"


class TestTogether:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "collector.example", "localhost.example"])
    def test_other_addresses_need_a_token(self, tmp_path, host):
        (line,) = problems(tmp_path, HTTP_HOST=host)
        assert line.startswith(f"HTTP_HOST={host}:")
        assert "API_TOKEN" in line
        assert problems(tmp_path, HTTP_HOST=host, API_TOKEN="x" * 20) == []
        with pytest.raises(ValidationError):
            Settings(http_host=host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
    def test_loopback_needs_none(self, tmp_path, host):
        assert problems(tmp_path, HTTP_HOST=host) == []

    def test_a_wrong_token_is_one_mistake_not_two(self, tmp_path):
        (line,) = problems(tmp_path, HTTP_HOST="0.0.0.0", API_TOKEN="a b")
        assert line.startswith("API_TOKEN=***")

    def test_odd_but_usable_settings_are_noticed(self, tmp_path):
        write(tmp_path, ".env", "API_TOKEN=short\nMONGODB_URI=mongodb://u:p@h\n")
        settings = load_settings(
            tmp_path,
            {
                "HYPERLIQUID_TRADERS": ",".join(f"0x{n:040x}" for n in range(12)),
                "TRADER_ORDERS_WS_ENABLED": "0",
                "TRADER_POSITIONS_WS_ENABLED": "0",
                "HYPERLIQUID_FILLS": "0",
            },
        )
        for part in (
            "nothing to follow",
            "API_TOKEN is short",
            "API_TOKEN stands in .env",
            "MONGODB_URI stands in .env",
        ):
            assert sum(part in notice for notice in settings.notices) == 1
        assert "u:p" not in str(settings.notices)
