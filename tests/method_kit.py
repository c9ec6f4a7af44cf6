"""The corpus of payment fields: what each kind of value takes and refuses, by hand.

Numbers are those of published examples or made with valid check digits for nobody.
"""

from collections.abc import Iterator

from orderbook.method_fields import MethodField

# Typed -> kept. Every good value beside a field's own example.
GOOD: dict[str, dict[str, str]] = {
    "text": {"  two  words ": "two words", "Stra\u00dfe 5, K\u00f6ln": "Stra\u00dfe 5, K\u00f6ln"},
    "name": {
        "Jose\u0301 Garci\u0301a": "Jos\u00e9 Garc\u00eda",
        "\u041e\u043b\u044c\u0433\u0430 \u041f\u0435\u0442\u0440\u043e\u0432\u0430": (
            "\u041e\u043b\u044c\u0433\u0430 \u041f\u0435\u0442\u0440\u043e\u0432\u0430"
        ),
        "\u5c71\u7530 \u305f\u308d\u3046": "\u5c71\u7530 \u305f\u308d\u3046",
        "\uff94\uff8f\uff80\uff9e \uff80\uff9b\uff73": "\u30e4\u30de\u30c0 \u30bf\u30ed\u30a6",
        "O'Neill-Smith Ltd. 24": "O'Neill-Smith Ltd. 24",
    },
    "email": {"Maria.S+pay@Example.COM": "Maria.S+pay@example.com"},
    "phone": {"+1 (201) 555-0123": "+12015550123", "0046 70 174 06 05": "+46701740605"},
    "country": {"pt": "PT"},
    "countries": {"fr, de de": "DE FR"},
    "choice": {},
    "handle": {"@maria_7": "maria_7"},
    "iban": {
        "nl91 abna 0417 1643 00": "NL91ABNA0417164300",
        "GB29-NWBK-6016-1331-9268-19": "GB29NWBK60161331926819",
    },
    "bic": {"cobadeff": "COBADEFF", "DEUT DE FF 500": "DEUTDEFF500"},
    "account": {"19-2000145399/0800": "19-2000145399/0800", "ab 12 34": "AB1234"},
    "code": {"cap-1a2b3c": "CAP-1A2B3C"},
    "digits": {},
    "us_routing": {"0110-0001-5": "011000015"},
    "sort_code": {"20 00 00": "200000", "200000": "200000"},
    "ifsc": {"hdfc0000001": "HDFC0000001"},
    "vpa": {"Maria.S@OkExample": "maria.s@okexample"},
    "uuid": {"123E4567-E89B-42D3-A456-426614174000": "123e4567-e89b-42d3-a456-426614174000"},
    "cpf": {"390.533.447-05": "39053344705"},
    "cnpj": {"16.727.230/0001-97": "16727230000197"},
    "abn": {"83 914 571 673": "83914571673"},
    "thai_id": {"1-2345-45678-78-1": "1234545678781"},
    "cbu": {"2850590940090418135201": "2850590940090418135201"},
    "tax_id": {},
    "monero": {
        standard: standard
        for standard in (
            "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn"
            "3RVGQBEP3A",
            "4KWQM1GQiAAR5E4j78Bb8D6JNewbh7NxqPG4vz4J3EqnXTnrUt5oSyYBWFnUp8bCtMHYmge7vKPo8imcRY35i"
            "e3vJEGVR1ZjCDn1AiEXRF",
        )
    },
    "liquid": {
        "EX1QV87FRUSQAK2GHKC6VDHVU4CF44A5W4QA9ZNRML": "ex1qv87frusqak2ghkc6vdhvu4cf44a5w4qa9znrml",
        **{
            same: same
            for same in (
                "lq1pqv2hqlftferje93tcvedsarkv2ex4ah3yn9mc232ql83dj9cskwry0rkfj3vac7vc9qp2s3s5petf9"
                "qq69267v4tej5705d2u0cutlcujeekahuf0m6q",
                "VTpuiFt5FJCNgDmj5qVCAvJWunTCQmsEiiEFoWabedTdSNRDgXmBHtpZdoSrZ3FjvsxwVsmNwy7eF2ze",
                "PwGQLDa3odTQwg1VTbhbEaAFySRHT7LUYT",
                "GhBYcGCs2P7eDsVw23hrWKG6eMnJfTan7g",
            )
        },
    },
    "lightning_address": {"Maria@Example.com": "maria@example.com"},
    "lnurl": {
        "LNURL1DP68GURN8GHJ7ETCV9KHQMR99E3K7MF0D3H82UNVWQHK6CTJD9SSQNS3TL": (
            "lnurl1dp68gurn8ghj7etcv9khqmr99e3k7mf0d3h82unvwqhk6ctjd9ssqns3tl"
        )
    },
    "bolt12": {"lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7": (
        "lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7"
    )},
}  # fmt: skip

# What each kind refuses for its own reasons: alphabet, form, checksum, country.
BAD: dict[str, tuple[str, ...]] = {
    "text": ("Cash \u0430t noon", "1 ra\u03bfd"),
    "name": ("M\u0430ria Schmidt", "Maria \u0421\u043e\u0441\u043e", "12345", "\u03a1aul"),
    "email": ("maria", "@example.com", "maria@example", "m\u00e4ria@example.com", "a b@example.com",
              "m\u0430ria@example.com", "maria@-example.com", "a@b@example.com"),
    "phone": ("2015550123", "+1 201 555", "+999 123456789", "+4670174060512345", "+1-201-CALL-ME",
              "+12015550123 ext 5", "+\u0661\u0662\u0660\u0661\u0665\u0665\u0665"),
    "country": ("ZZ", "DEU", "1", "G\u00cb"),
    "countries": ("DE;FR", "DE ZZ", "Germany"),
    "choice": ("current", "check ing"),
    "handle": ("maria schmidt", "m\u0430ria7", "-maria-", "maria!"),
    "iban": ("DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000",
             "DE89 3704 0044 0532 O130 00", "1289370400440532013000", "DE89_370400440532013000",
             "D\u0395 89370400440532013000", "US64SVBKUS6S3300958879", "BR1800360305000010009795493C1"),
    "bic": ("COBADEF", "COBADEFFXX", "COBAZZFF", "C0BADEFF", "COBA\u0414EFF"),
    "account": ("12#34", "12_34", "\u0410\u04121234", "ab"),
    "code": ("12#34", "1\u0410 2345678", "-1234567"),
    "digits": ("12a4", "\u0661\u0662\u0663\u0664", "12.4"),
    "us_routing": ("021000022", "02100002", "o21000021"),
    "sort_code": ("20000", "2000000", "20-0O-00"),
    "ifsc": ("SBIN1000691", "SBI00000691", "SBIN000069", "\u0405BIN0000691"),
    "vpa": ("maria", "maria@", "m\u0430ria@okexample", "maria@ok.example", "ma ria@bank"),
    "uuid": ("123e4567-e89b-42d3-a456-42661417400", "123e4567e89b42d3a456426614174000"),
    "cpf": ("39053344706", "390533447"),
    "cnpj": ("16727230000198",),
    "abn": ("83914571674",),
    "thai_id": ("1234545678789",),
    "cbu": ("2850590940090418135202",),
    "tax_id": ("39053344706", "1#2"),
    "monero": ("44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn"
               "3RVGQBEP3B", "0" * 95, "z" * 95,
               "44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn"
               "3RVGQBEP3"),
    "liquid": ("lq1qqv2hqlftferje93tcvedsarkv2ex4ah3yn9mc232ql83dj9cskwryc0uj8eqpmv530d35cmweetsnttmga"
               "2p6sanjede0sw8z", "ex1qv87frusqak2ghkc6vdhvu4cf44a5w4qa9znrmm",
               "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "GhBYcGCs2P7eDsVw23hrWKG6eMnJfTan7h",
               "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "lq1bio" + "q" * 80),
    "lightning_address": ("maria", "maria@localhost", "m\u0430ria@example.com",
                          "lnbc10u1p3pj257pp5yztkwjcz5ftl5laxkav23zmzekaw37zk6kmv80pk4xaev5qhtz7q"),
    "lnurl": ("lnurl1dp68gurn8ghj7etcv9khqmr99e3k7mf0d3h82unvwqhk6ctjd9ssqns3tz",),
    "bolt12": ("lno1bio" + "q" * 30,),
}  # fmt: skip


def common(field: MethodField) -> Iterator[object]:
    """Yield what every field refuses, an optional one all but the empty ones."""
    yield from ("", "   ")
    yield from (5, None, b"bytes", ["list"])
    example = field.example
    middle = len(example) // 2
    for hidden in ("\x00", "\n", "\x1b[2J", "\u202e", "\u2066", "\u200b", "\u00ad", "\U000e0041"):
        yield example[:middle] + hidden + example[middle:]
    yield "A" * (field.high + 1)
    yield "\u00e9" * (field.high // 2 + 1)
    yield "1" * (3 * field.high + 100)
    yield "\ud800" + example


def corpus(field: MethodField) -> Iterator[object]:
    """Yield every value of the corpus that a field is shown, its own example first."""
    yield field.example
    for kind in field.kinds:
        yield from GOOD[kind]
    yield from common(field)
    for kind in field.kinds:
        yield from BAD[kind]
