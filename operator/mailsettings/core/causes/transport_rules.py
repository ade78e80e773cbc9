"""What keeps a session from being opened: names, proxies, sockets, TLS and certificates."""

from typing import Final

from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.rule import BEFORE_LOGIN, ENVELOPE, Rule, says

_ERRNO: Final = "POSIX and Winsock error names; getaddrinfo(3)"
_LIBRARIES: Final = "messages of Node.js, Python, Go, .NET, JavaMail, PHP, Ruby, curl and OpenSSL"
_OPENSSL: Final = "OpenSSL error strings; TLS alerts of RFC 8446 §6"
_X509: Final = "X.509 verification errors of OpenSSL, Go, Java and .NET"
_SOCKS: Final = "RFC 1928 §3 and §6"
_HTTP: Final = "RFC 9110 §9.3.6 (CONNECT) and §15.5.8 (407)"
_RFC3207: Final = "RFC 3207 §4"
_PORTS: Final = "clouds and access providers document that they block port 25"

PROXY: Final[tuple[Rule, ...]] = (
    says(
        _HTTP,
        Cause.PROXY_AUTH_REQUIRED,
        r"\b407\b.{0,40}prox|prox.{0,60}\b407\b|http/1\.[01] 407",
        r"proxy.{0,20}authentication.{0,20}(?:required|failed|needed|denied|unsuccessful|invalid)",
        r"prox(?:y|ies).{0,60}(?:requires? auth|credentials|username.{0,20}password|authenticat|login)",
    ),
    says(
        _SOCKS,
        Cause.PROXY_AUTH_REQUIRED,
        r"no acceptable.{0,20}(?:auth\w* )?methods?|no accept\w+ auth",
        r"socks.{0,60}(?:authenticat|user(?:name)?(?: |/)?.{0,8}pass|credentials|login)",
        r"authenticat.{0,40}socks",
        r"\b407\b",
        stages=("proxy",),
    ),
    says(_SOCKS, Cause.PROXY_AUTH_REQUIRED, r"socks.{0,40}(?:no acceptable|no accepted|authentication)", r"no acceptable.{0,16}methods?"),
    says(
        _SOCKS,
        Cause.PROXY_FAILURE,
        r"socks.{0,3}[45]?a?\b.{0,120}(?:fail|error|reject|refus|closed|malformed|not allowed|unreachable|expired|invalid|unsupported|denied|timed? ?out|reply)",
        r"(?:fail|error|reject|refus|invalid|malformed|could ?n.t|unable|can't|cannot).{0,80}\b(?:socks\w*|prox(?:y|ies))\b",
        r"\bprox(?:y|ies)\b.{0,100}(?:fail|error|reject|refus|closed|forbidden|denied|not allowed|unreachable|timed? ?out|bad gateway|invalid|unexpected|returned|respon|\b50[0234]\b|\b403\b)",
        r"proxyprotocolexception|proxyconnect|http connect.{0,40}(?:fail|refus|\b[45][0-9]{2}\b)|connect tunnel failed|tunneling socket",
        r"not allowed by ruleset|general socks server failure",
        unless=(r"mfe proxy|proxy[- ]?protocol header|reverse proxy|smtp.{0,20}proxy ready",),
    ),
    Rule(Cause.PROXY_FAILURE, "whatever goes wrong at the proxy", stages=frozenset({"proxy"})),
)

DNS: Final[tuple[Rule, ...]] = (
    says(
        _ERRNO,
        Cause.DNS_NOT_FOUND,
        r"enotfound|eai_(?:again|noname|nodata|fail)|wsahost_not_found|wsano_data|wsatry_again|\b1100[14]\b|edns\b|\benodata\b|querymx|querya?\b.{0,10}e(?:servfail|refused|timeout)",
        r"getaddrinfo.{0,60}(?:fail|error|not|temporary)|gaierror|php_network_getaddresses",
        r"unknownhost|unknown host|unable to resolve|(?:could|can|did) ?n(?:o|')t resolve|cannot resolve|unresolved host",
        r"no such host|nodename nor servname|name or service not known|no address associated|no such host is known",
        r"temporary failure in name resolution|name resolution (?:failed|failure|error)|host(?:name)? (?:could not be|cannot be|not) (?:found|resolved)",
        r"remote name could not be resolved|requested name is valid.{0,40}no data|lookup .{0,100}(?:server misbehaving|i/o timeout|no such host)",
        r"server misbehaving|\bnxdomain\b|\bservfail\b|host not found|host or domain name not found|invalid (?:host ?name|uri: the hostname)|curl(?:e_couldnt_resolve_host|.{0,12}\(6\))",
        r"socket\.gaierror|name does not resolve|domain name not found|dns (?:lookup|resolution|error|query|server)",
        stages=BEFORE_LOGIN | {"", "token", "consent", "auth"},
        unless=(r"sender|recipient|helo|relay|rdns|reverse",),
    ),
)

CERTIFICATE: Final[tuple[Rule, ...]] = (
    says(
        _X509,
        Cause.CERTIFICATE_NAME_MISMATCH,
        r"err_tls_cert_altname_invalid|hostname/ip does not match|altnames?|subject alternative name",
        r"host ?name.{0,60}(?:not match|mismatch|doesn'?t match|did not match|not matched|verification fail|wrong)|hostname mismatch",
        r"certificate.{0,30}(?:is|was|are)? ?(?:only )?(?:valid|issued) for.{0,200}\bnot\b",
        r"cannot validate certificate for .{0,80}because it doesn'?t contain any ip sans",
        r"peer certificate cn.{0,40}did not match|remotecertificatenamemismatch|certificate name mismatch|cn_mismatch|common name.{0,60}(?:match|mismatch|differ|does|invalid|not)",
        r"doesn'?t contain any ip sans|no (?:alternative certificate )?subject name match|target principal name is incorrect|ip address mismatch",
        r"no name matching|no subject alternative|verify (?:the )?identity of server|certificate.{0,60}(?:not match|doesn'?t match|mismatch)|sec_e_wrong_principal|ssl_error_bad_cert_domain",
        r"certificate subject name.{0,100}not match|bad cert(?:ificate)? domain|hostname verification|server identity|err_cert_common_name_invalid",
    ),
    says(
        _X509,
        Cause.CERTIFICATE_EXPIRED,
        r"cert\w*.{0,60}(?:has )?expired|cert_has_expired|certificate_expired|expired certificate|cert\w*.{0,60}not (?:yet )?valid(?: yet| before|$| until)",
        r"cert_not_yet_valid|certificateexpired|certificatenotyetvalid|notafter|notbefore|not_?time_?valid|required certificate is not within its validity period",
        r"validity (?:period|check|interval)|sec_e_cert_expired|outside (?:of )?its validity",
    ),
    says(
        _X509,
        Cause.CERTIFICATE_UNTRUSTED,
        r"self[- _]?signed|depth_zero_self_signed|self_signed_cert_in_chain|unable_to_(?:get_issuer_cert|verify_leaf_signature)",
        r"unable to (?:get|find) (?:local |valid )?(?:issuer|certification)|unable to verify (?:the )?(?:first|leaf|certificate)",
        r"certificate.{0,40}signed by (?:an )?unknown authority|unknown (?:certificate )?authority|unknown[ _]ca\b|unknown issuer",
        r"certificate[ _]verify[ _]failed|certificate (?:verification|validation|verify)(?: has)? fail|verify error|verify failed|ssl: certificate_verify",
        r"pkix path|certpath|trustanchors|trust anchor|suncertpathbuilder|validatorexception",
        r"certificate.{0,60}(?:not trusted|untrusted|invalid|could not be (?:validated|verified)|is not valid|cannot be verified|rejected)",
        r"remotecertificatechainerrors|remote certificate|certificate chain|untrustedroot|untrusted root|partialchain|revocation|sec_e_untrusted_root",
        r"not trusted|cafile|ca[- ]?bundle|ca cert(?:ificate)?s?\b|capath|curl.{0,12}\((?:60|77)\)|peer'?s certificate|x509:|error adding trust|certificate unknown|certificate_unknown|bad[_ ]certificate|no trusted",
        unless=(r"sender|recipient|callout|domain verif",),
    ),
)

TLS_MODE: Final[tuple[Rule, ...]] = (
    says(
        _LIBRARIES,
        Cause.TLS_PROTOCOL_VERSION,
        r"unsupported[ _]protocol|protocol[ _]version|no protocols available|version[ _]too[ _]low|unsupported (?:ssl|tls)? ?version|inappropriate_fallback",
        r"no appropriate protocol|protocol is disabled|cipher suites are inappropriate|no (?:shared|common) (?:cipher|protocol|tls|ssl)|no_shared_cipher|no cipher",
        r"tlsv1 alert protocol|sslv3 not supported|tls ?v?1(?:\.|_)?[01]?.{0,40}(?:not supported|deprecated|retired|no longer|disabled|unsupported|required)",
        r"not supported protocol version|minimum (?:tls|protocol) version|(?:old|older|weak|legacy|unsupported|deprecated|lower|insecure) (?:versions? of )?(?:tls|ssl)",
        r"requires? tls ?v?1\.[23]|tls 1\.[23] (?:or|is)|upgrade.{0,40}\btls\b|client and server.{0,40}common algorithm|do not possess a common|sec_e_algorithm_mismatch|sec_e_unsupported_function",
        r"handshake[ _]failure|dh key too small|ee key too small|ca md too weak|unsafe legacy renegotiation|insufficient[ _]security|ssl23_get_server_hello:unsupported",
        r"selected (?:legacy )?(?:unsupported )?protocol version|server chose|remote error: tls: protocol|tls version.{0,30}(?:not|unsupported|too)|\b4\.7\.66\b",
        unless=(r"wrong[ _]version[ _]number",),
    ),
    says(
        "Exchange Online documentation: TLS 1.0 and 1.1 are refused",
        Cause.TLS_PROTOCOL_VERSION,
        r"\b[45]\.7\.66\b",
    ),
    says(
        _OPENSSL,
        Cause.START_TLS_EXPECTED,
        r"wrong[ _]version[ _]number|unknown[ _]protocol|first record does not look like a tls|not an ssl/tls record|not_ssl_record|http[ _]request|packet length too long|record layer failure",
        r"unrecognized ssl message|plaintext connection|unsupported or unrecognized ssl|unexpected packet format|frame size|corrupted frame|invalid framing|corrupt message|invalidcontenttype",
        r"\b(?:tls|ssl)\b.{0,200}(?:oversized record)|oversized record|record overflow|ssl3_get_record|tls_get_more_records|wrong ssl version|unexpected tls packet|non-tls|not (?:a )?tls|plain ?text (?:response|traffic)",
        r"an unexpected tls|bad record type|unexpected message|ssl_error_rx_record_too_long|invalid token supplied|message received was unexpected or badly formatted|sec_e_invalid_token",
    ),
    says(
        _RFC3207,
        Cause.START_TLS_EXPECTED,
        r"must (?:first )?issue.{0,20}starttls|starttls.{0,20}(?:first|is required|required|needed)|issue.{0,6}starttls",
        r"(?:require|must|need|only|enforce)\w*.{0,40}\b(?:starttls|start tls)\b",
        r"must use (?:tls|encryption)|(?:tls|encryption|ssl|encrypted|secure connection).{0,30}(?:is )?(?:required|needed|mandatory)|(?:without|before) (?:tls|starttls|encryption)",
        r"requires? (?:a )?(?:secure|encrypted|tls|ssl|encryption)|unencrypted connection|connection is not (?:secure|encrypted)|plaintext authentication (?:disallowed|not allowed|is not)|cleartext (?:password|authentication)",
        r"unencrypted (?:connection|auth|login)|encryption required for|non[- ]?(?:secure|encrypted|tls) connection|refuse to authenticate|insecure (?:connection|channel)|must be encrypted",
        unless=(
            r"neither|does(?:n't| not) (?:support|offer|advertise|announce)|not (?:supported|advertised|offered|available|announced)|unsupported|no starttls|host does not",
            r"(?:or the client was not authenticated)(?!.{0,80}starttls)|5\.7\.57|server offers|no longer|\btls ?v?1\.[0-3]",
            r"starttls (?:failed|error)",
        ),
    ),
    says(
        "Postfix, Exim: STARTTLS with a broken certificate or key",
        Cause.SERVER_MISCONFIGURED,
        r"(?:tls|starttls|ssl).{0,40}(?:not available|unavailable|disabled|fail).{0,40}(?:local problem|temporary reason|initiali[sz]ation|internal)",
        r"tls not available due to|no (?:ssl )?certificate (?:loaded|available|configured)|no server certs|internal error.{0,40}tls|tls.{0,20}(?:internal_error|internal error)",
    ),
    says(
        "RFC 3207 §4, RFC 5321 §4.2.4: the client asks for STARTTLS and is told that there is none",
        Cause.START_TLS_NOT_OFFERED,
        r"\bstart ?tls\b.{0,80}(?:not|n't|unsupported|un(?:available|recogni[sz]ed)|no support|refused|unknown|missing|disabled|without|lacks)",
        r"(?:not|n't|without|no|lacks?|missing).{0,60}\b(?:support\w*|offer\w*|advertis\w*|announce\w*|has|have|provide\w*)?.{0,16}\bstart ?tls\b",
        r"(?:does not|doesn'?t|did not|didn'?t).{0,20}(?:support|offer|advertise).{0,20}(?:secure|ssl|tls|encrypt)|secure connections\b",
        r"upgrade.{0,30}(?:tls|starttls|secure).{0,30}(?:not|fail|impossible)|require_tls|tls (?:is )?not (?:available|supported|offered)|etls\b",
        r"starttls.{0,40}(?:50[0234]|454)|tls (?:required|mandatory|demanded|requested).{0,40}(?:not|no |n't|neither)",
        unless=(r"must issue",),
    ),
    says(
        "a server that speaks first in TLS: bytes of a TLS record where a greeting was due",
        Cause.IMPLICIT_TLS_EXPECTED,
        r"(?:\\x15|\\x16|\\u0015|\\u0016)\\?x?0?3|invalid greeting|greeting never received|bad greeting|no greeting|unexpected greeting",
        r"smtps|ssl (?:is )?(?:required|wrapped)|port 465|:465\b|implicit[ _](?:tls|ssl)|speaks? tls|tls on connect|wrapper ?mode",
        r"ssl://.{0,80}tim|(?:empty|short|no) response|response code.{0,30}empty|non[- ]smtp|lost connection.{0,30}initial|while receiving the initial server greeting|server greeting",
        stages=("greeting", "connect", "tls", "ehlo"),
        unless=(r"refused|unreachable|no route|\b[45][0-9]{2} [a-z#]", r"etimedout.{0,30}connect|dial tcp"),
    ),
)

SOCKET: Final[tuple[Rule, ...]] = (
    says(
        _PORTS,
        Cause.PORT_BLOCKED,
        r"(?:port|smtp|outbound).{0,40}(?:is |are |been |was )?(?:blocked|blocking|filtered|firewall|not permitted|prohibited|restricted)",
        r"blocks?.{0,30}(?:port|smtp|outgoing|outbound)|firewall|access permissions|wsaeacces|eacces|\b10013\b|eperm\b|operation not permitted|permission denied",
        r"administratively prohibited|forbidden by its access permissions|selinux",
        stages=BEFORE_LOGIN | {""},
    ),
    says(
        _PORTS,
        Cause.PORT_BLOCKED,
        r"enetunreach|ehostunreach|network (?:is )?(?:unreachable|down)|no route to host|host (?:is )?unreachable|wsae(?:net|host)unreach|\b100(?:51|65)\b|\b(?:errno|error:?) ?(?:101|113)\b|eaddrnotavail|cannot assign requested address",
    ),
    says(
        _PORTS,
        Cause.PORT_BLOCKED,
        r"(?::|port\W{0,4}|, ?|\s)25\b.{0,80}(?:time|etimedout|timed)|(?:time|etimedout|timed).{0,120}(?::|port\W{0,4}|, ?)25\b",
        stages=("connect", ""),
        unless=(r"refused",),
    ),
    says(
        _ERRNO,
        Cause.CONNECTION_REFUSED,
        r"econnrefused|wsaeconnrefused|\b10061\b|\berrno:? ?(?:111|61)\b|\((?:111|61)\)|\berror:? ?111\b",
        r"connection (?:was )?(?:actively )?refused|actively refused|refused (?:the )?connection|target machine actively|curl.{0,12}\(7\)|connectexception: connection refused",
        unless=(r"too many|[45]\.[0-9]\.[0-9]|\b(?:421|554|550)\b",),
    ),
    says(
        _ERRNO,
        Cause.CONNECTION_TIMEOUT,
        r"etimedout|wsaetimedout|\b10060\b|esockettimedout|\berrno:? ?(?:110|60)\b|\((?:110|60)\)",
        r"time(?:d)?[ -]?out|did not (?:properly )?respond|deadline exceeded|opentimeout|readtimeout|no (?:answer|response)|took too long|operation was canceled",
        stages=BEFORE_LOGIN | {"", "token", "consent"},
        unless=(r"connection unexpectedly closed",),
    ),
    says(
        "Node.js, Python, JavaMail: nothing but an end of the stream where a greeting was due",
        Cause.IMPLICIT_TLS_EXPECTED,
        r"connection unexpectedly closed|unexpected(?:ly)? (?:eof|closed|end)|\beof\b|\[eof\]|connection (?:was )?(?:closed|reset|lost|aborted|dropped)|socket (?:was )?closed|server (?:has )?closed|response: ?-1|econnreset|empty (?:reply|response)",
        stages=("greeting",),
    ),
    says(
        "RFC 5321 §3.8: a server may close the connection at any time",
        Cause.SERVER_TEMPORARY,
        r"connection (?:was |has been )?(?:unexpectedly )?(?:closed|reset|lost|aborted|dropped|terminated)|econnreset|wsaeconnreset|epipe|broken pipe|\b1005[34]\b|unexpected(?:ly)? (?:eof|closed)|\beof\b|server (?:has )?(?:closed|disconnected|dropped)|forcibly closed|lost connection|socket (?:hang up|closed|is not connected)|curl.{0,12}\((?:52|55|56)\)|ssl_error_syscall",
        stages=ENVELOPE | {"auth", "connect", "ehlo", "tls", "token", "consent", ""},
    ),
    says(
        _LIBRARIES,
        Cause.CONNECTION_REFUSED,
        r"(?:could ?n.t|could not|cannot|can't|unable to|failed to) (?:open )?connect",
        stages=("connect",),
    ),
)
"""Errno names, after all that says more."""
