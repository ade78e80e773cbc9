"""What SMTP servers say in their replies, by what it is about: the login, the sender, limits, the mail, the recipient."""

from typing import Final

from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.rule import ENVELOPE, Rule, says

_EXCHANGE: Final = "Exchange Online documentation: SMTP AUTH, NDR and error codes"
_GMAIL: Final = "Gmail SMTP errors and codes (Google Workspace help)"
_SENDGRID: Final = "SendGrid documentation: SMTP errors and troubleshooting"
_SES: Final = "Amazon SES documentation: SMTP response codes, sending errors"
_MAILGUN: Final = "Mailgun documentation: sandbox domains, delivery errors"
_POSTFIX: Final = "Postfix: smtpd replies"
_EXIM: Final = "Exim: default replies"
_RFC4954: Final = "RFC 4954 §4 and §6"
_RFC5321: Final = "RFC 5321 §4.2 and §4.3.2"
_RFC3463: Final = "RFC 3463 §3"
_RFC7372: Final = "RFC 7372 §3, RFC 7489 §10.3"
_CLIENTS: Final = "messages of Nodemailer, smtplib, MailKit, JavaMail, PHPMailer, Symfony Mailer, Net::SMTP and Go's net/smtp"
_LISTS: Final = "replies of receivers that use DNS block lists, which name the list"

EXCHANGE_LOGIN: Final[tuple[Rule, ...]] = (
    says(
        _EXCHANGE,
        Cause.SMTP_AUTH_DISABLED_TENANT,
        r"smtp ?client ?auth\w*.{0,40}disabled for the (?:tenant|organi[sz]ation)",
        r"disabled for the tenant|smtp_auth_disabled|smtpclientauthenticationdisabled.{0,20}(?:tenant|transportconfig|organi[sz]ation)",
        unless=(r"disabled for the mailbox",),
    ),
    says(
        _EXCHANGE,
        Cause.SMTP_AUTH_DISABLED_MAILBOX,
        r"smtp ?client ?auth\w*.{0,40}disabled",
        r"disabled for the (?:mailbox|user)\b|smtp auth.{0,30}disabled|authenticated smtp.{0,30}(?:disabled|off|not enabled)",
    ),
    says(_EXCHANGE, Cause.SECURITY_DEFAULTS, r"security[ -]defaults?"),
    says(
        _EXCHANGE,
        Cause.CONDITIONAL_ACCESS,
        r"meet the criteria|\b5\.7\.139\b.{0,160}(?:crit[eèé]r|kriteri)",
        r"conditional[ _]access|blocked by (?:an )?access polic|multi-?factor authentication (?:is )?required|second factor required|device (?:is )?not compliant",
    ),
    says(
        _EXCHANGE,
        Cause.BASIC_AUTH_DISABLED,
        r"basic auth\w*.{0,60}(?:disabled|not supported|retired|deprecated|blocked|turned off|switched off|unsupported|no longer)",
        r"(?:no longer|not|stopped|disabled|retired?) (?:be )?(?:support\w*|allow\w*|accept\w*|using)?.{0,10}basic auth",
        r"\b5\.7\.30\b|less secure app|(?:password|legacy|plain) auth\w*.{0,40}(?:disabled|no longer|not supported|retired)|oauth2?.{0,20}(?:is )?(?:required|needed|only)",
        r"must use (?:oauth|xoauth2|modern auth)|modern auth\w* (?:is )?required",
        stages=("auth", "mail_from", "rcpt", "data", "ehlo", ""),
    ),
)

LOGIN: Final[tuple[Rule, ...]] = (
    says(
        _GMAIL,
        Cause.APP_PASSWORD_REQUIRED,
        r"app(?:lication)?[- ]?(?:specific)?[- ]password",
        r"invalidsecondfactor|two[- ]?(?:factor|step)|\b2fa\b|2-step|authorization code.{0,20}(?:instead|required)|client password|device password|generate.{0,30}password",
        r"授权码|third[- ]party (?:client|app)|enter (?:your )?authorization code",
        stages=("auth", "mail_from", "data", "rcpt", ""),
    ),
    says(
        _GMAIL,
        Cause.ACCOUNT_BLOCKED,
        r"web ?browser|weblogin ?required|(?:log|sign) ?in (?:via|with|through|using|at).{0,20}(?:browser|web)|verify (?:your (?:account|identity|phone)|that you|it'?s you)|suspicious (?:activity|login|sign)|captcha|unusual",
        r"account.{0,60}(?:locked|disabled|suspended|blocked|not active|inactive|not activated|deactivated|frozen|closed|under review|restricted|on hold|not subscribed|paused|terminated|banned|expired|hacked|compromised|limited)",
        r"(?:locked|disabled|suspended|blocked|deactivated|inactive|frozen).{0,20}(?:account|user\b)|user.{0,30}(?:locked|disabled|suspended|blocked|not active)|accountdisabled|account not subscribed",
        r"not (?:yet )?(?:been )?activated|hosting.{0,30}suspended|sending (?:is |has been )?(?:paused|disabled|suspended)|outbound spam|\b5\.1\.8\b.{0,10}access denied|\b5\.7\.50[12]\b|bad outbound sender|not activated",
        unless=(r"recipient|mailbox disabled|\b5\.2\.1\b|rcpt|email account that you tried to reach|user you are trying",),
    ),
    says(
        _RFC4954,
        Cause.AUTH_NOT_OFFERED,
        r"(?:smtp )?auth(?:entication)?(?: extension| command)?.{0,40}not (?:supported|available|advertised|offered|enabled|allowed|announced|implemented|permitted)",
        r"does(?:n't| not) (?:support|advertise|offer|announce|allow).{0,20}\bauth(?:entication)?\b(?! (?:mechanism|method|type|plain|login|xoauth))",
        r"server offers no auth|no (?:supported )?auth(?:entication)? (?:extension|advertised|offered|available|capability|support)|smtpnotsupportederror.{0,40}auth\b",
        r"\b(?:502|500|503)\b.{0,60}(?:\bauth\b|command).{0,60}(?:not|un)|auth.{0,20}(?:unrecognized|unknown|disabled)|auth.{0,40}command (?:not|un|disabled)|not support.{0,20}smtp authentication",
        r"send hello first|unrecogni[sz]ed command.{0,10}\bauth\b|smtp auth\w*.{0,20}(?:unavailable|unsupported)|authentication (?:is )?(?:not enabled|disabled|unavailable)|auth command used when not advertised",
        unless=(
            r"mechanism|method|\btype\b|no (?:supported|suitable|compatible|known) auth|5\.7\.57|schema|scheme|starttls first|535|"
            r"auth (?:plain|login|cram|xoauth)|unauthenticated|send auth",
        ),
        stages=("auth", "ehlo", "tls", "mail_from", "greeting", ""),
    ),
    says(
        _RFC4954,
        Cause.AUTH_MECHANISM_UNSUPPORTED,
        r"(?:no |not |un|incompatible|none of|disabled|invalid|unknown).{0,40}(?:auth\w*|sasl|login)?.{0,16}\b(?:mechanisms?|methods?|schemes?|schemas?|authenticators?)\b",
        r"(?:mechanisms?|methods?|schemes?|auth\w* types?|authenticators?)\b.{0,60}(?:not|un(?:supported|known|recogni[sz]ed|available)|n't|invalid|disabled|exhausted|refus|reject)",
        r"using 0 possible|find an authenticator supported|unrecogni[sz]ed authentication type|unknown authentication type|unsupported authentication|authentication type (?:is )?not|\b5\.7\.4\b|\b5\.5\.4\b.{0,30}auth",
        r"no (?:suitable|supported|compatible|common|matching|known|worthy) (?:auth|sasl|mech)|no known auth|did not find any.{0,30}auth|\b504\b.{0,60}(?:auth|mech|parameter)|supports? (?:only|auth)",
        r"auth(?:entication)? (?:plain|login|cram-?md5|xoauth2|oauthbearer|ntlm|digest-?md5|gssapi)\b.{0,40}(?:not|un|n't|disabled)|(?:xoauth2|oauthbearer|cram-md5|ntlm|digest-md5).{0,40}(?:not (?:supported|available|offered)|unsupported)",
        stages=("auth", "ehlo", "mail_from", "tls", ""),
        unless=(r"\b5\.7\.57\b",),
    ),
    says(
        _SENDGRID,
        Cause.AUTH_REQUIRED,
        r"unauthenticated senders? (?:are )?not allowed",
        r"(?:must|need to|please|should) (?:first )?(?:authenticate|log ?in|be (?:logged|authenticated)|sign in)|(?:authentication|login|auth) (?:is )?(?:required|needed|necessary|first)",
        r"not (?:yet )?(?:authenticated|logged[ -]?in)|client (?:was )?not authenticated|(?:smtp )?auth (?:is )?(?:required|needed)|require\w* (?:authentication|auth\b|login)|authenticat\w+ (?:before|first)",
        r"without auth|unauthenticated|anonymous (?:mail|sender|access)|no (?:credentials|login|authentication) (?:was |were )?(?:provided|given|sent|supplied)|credentials (?:are )?(?:missing|required)|missing credentials",
        r"send auth(?: command)? first|\b530\b.{0,30}auth|authrequired|smtp authentication is|login denied for anonymous",
        unless=(r"authentication (?:failed|unsuccessful)|not accepted|535|sender address rejected|dmarc|dkim|\bspf\b|sender domain|starttls|5\.7\.26|unauthenticated (?:e?-?mail|message)|recipient rate|\brelay",),
    ),
    says(
        "Exchange Online: a token that Exchange knows, but not for this mailbox",
        Cause.MAILBOX_NOT_PERMITTED,
        r"mailbox logon failure|mapiexceptionlogonfailed|logonfailed|cannot open mailbox|mailboxnotfound|mailbox (?:does not exist|not found).{0,40}(?:token|oauth)",
        r"user is authenticated but not connected|not (?:permitted|authori[sz]ed|allowed) (?:to )?(?:access|use|open) .{0,20}mailbox|no (?:mailbox|licen[sc]e|permission).{0,30}mailbox|service ?principal|mailbox.{0,30}(?:licen[sc]e|not enabled for)",
        r"does not have (?:permission|access|rights?).{0,30}mailbox|applicationaccesspolicy|application access policy|erroraccessdenied|errorinvaliduser|mailboxnotenabledforrestapi",
    ),
    says(
        _EXCHANGE,
        Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
        r"\b5\.7\.3\b",
        providers=("office365",),
        auths=("oauth2",),
        stages=("auth", ""),
    ),
    says(
        "Microsoft High Volume Email: the token ends in less than ten minutes",
        Cause.TOKEN_EXPIRED,
        r"\b5\.5\.127\b|token.{0,30}(?:expired|about to expire|expires soon)",
    ),
    says(
        _RFC4954,
        Cause.SERVER_TEMPORARY,
        r"temporary auth\w* failure|temporar\w*.{0,30}(?:unable to )?authenticat|authentication (?:service|server|backend|system).{0,40}(?:unavailable|down|fail|busy|error)|\b454\b.{0,20}4\.7\.0.{0,20}temporary",
    ),
    says(
        _RFC4954,
        Cause.BAD_CREDENTIALS,
        r"user ?name and password not accepted|badcredentials|(?:bad|invalid|wrong|incorrect|unknown) (?:user ?names?|login|user|credentials?|password|auth\w*|e-?mail or password|api key|key)(?: (?:or|and|/) ?(?:password|user))?",
        r"auth\w* (?:credentials? )?(?:has |have )?(?:failed|failure|unsuccessful|invalid|rejected|denied|error|refused)|authentication_failed|(?:login|logon|log-?in|sign-?in|sasl).{0,30}(?:failed|failure|denied|invalid|incorrect|unsuccessful|rejected)",
        r"credentials? (?:were |was |are |is )?(?:invalid|incorrect|wrong|rejected|not (?:valid|accepted|recogni[sz]ed))|password (?:is |was )?(?:incorrect|invalid|wrong|rejected|not (?:accepted|correct|valid|match)|check failed|mismatch|expired|verification failed|command failed)",
        r"user ?(?:name)?(?: is|/password)? ?(?:unknown|invalid|incorrect|not (?:found|known|recogni[sz]ed))|authorization grant is invalid|could not authenticate|not authenticate|unable to (?:authenticate|log ?in)|failed to (?:authenticate|log ?in)|eauth\b|smtpauthenticationerror|authenticationfailed",
        r"api[ -]?key.{0,40}(?:invalid|revoked|expired|wrong|not found|does not exist|unauthori[sz]ed|deleted)|authentication (?:credentials )?invalid|error: authentication|\b535\b|user credentials were incorrect|auth fail",
        r"echec|échec|fehlgeschlagen|fallida|falló|non riuscita|mislukt|falhou|не удалась|認証|失败|authentifizierung|authentification|autenticaci[oó]n|autenticazione|autenticação",
        stages=("auth", "", "mail_from", "token", "ehlo"),
        unless=(r"rate|too many|dmarc|dkim|\bspf\b|sender address|recipient address|temporar",),
    ),
    says(
        _RFC4954,
        Cause.BAD_CREDENTIALS,
        r"\b535\b.{0,60}(?:auth|password|credential|login)|user ?name and password not accepted|badcredentials|authentication (?:failed|unsuccessful)",
        unless=(r"too many|rate|dmarc|dkim|\bspf\b",),
    ),
)

DOMAIN: Final[tuple[Rule, ...]] = (
    says(
        _RFC7372,
        Cause.SENDER_DOMAIN_AUTH_FAILED,
        r"\bdmarc\b|\bspf\b|\bdkim\b|sender policy framework|\b[45]\.7\.(?:2[0-4679]|32|40|509|51[25])\b|domainkeys",
        r"(?:message|mail|sender|domain|email).{0,60}(?:fails? to pass|not pass|did not pass|does not pass|unauthenticated|not authenticated|failed).{0,40}authenticat|authentication (?:information|checks?)|does not have authentication|unauthenticated (?:e-?mail|mail|message|sender)|sender id\b|arc\b.{0,20}fail|access denied, sending domain|sender domain.{0,40}authenticat",
    ),
)

LIMITS: Final[tuple[Rule, ...]] = (
    says(
        "Yahoo Mail: the account's password is refused where an app password is due",
        Cause.APP_PASSWORD_REQUIRED,
        r"#auth00[0-9]",
    ),
    says(
        "hosting providers: too many failed logins lock the account",
        Cause.ACCOUNT_BLOCKED,
        r"account (?:has been |is |was )?(?:temporarily )?(?:locked|disabled|blocked|suspended)",
        stages=("auth", "mail_from", "token"),
    ),
    says(
        _EXCHANGE,
        Cause.TOO_MANY_CONNECTIONS,
        r"(?:too many|maximum|max|limit|concurrent|simultaneous|exceed\w*|number of).{0,60}\b(?:connections?|sessions?|threads?)\b",
        r"\b(?:connections?|sessions?)\b.{0,60}(?:exceed|limit|too many|maximum|concurrent|simultaneous)|concurrent ?(?:smtp )?(?:connection|session|submission)|\b432\b.{0,10}4\.3\.2",
        unless=(r"connection rate|rate limit|per (?:hour|minute|second|day)|too frequent|recipients?|messages? per connection|messages sent (?:on|over|in)|message limit|timed? out",),
    ),
    says(
        _GMAIL,
        Cause.QUOTA_EXCEEDED,
        r"(?:daily|monthly|weekly|24[- ]?hour|per[- ]day|plan|account|free|trial|sending|submission|user|message|e-?mail|mail|credits?)s?.{0,40}(?:quota|credits?|limit|allowance|allotment).{0,30}(?:exceeded|reached|used|exhausted|hit|over)",
        r"(?:exceed\w*|reached|over|used up|surpassed|hit|beyond|consumed).{0,60}(?:daily|monthly|weekly|24[- ]?hour|per[- ]day|plan|quota|credits?|trial).{0,40}",
        r"messaging limits?|credits? exceeded|maximum credits|not enough credits|\b[45]\.4\.5\b|dailylimit|quota (?:exceeded|reached|exhausted|used)|over (?:sending )?quota|submission ?quota|recipient ?limit|submissionquotaexceeded",
        r"(?:too many|maximum|max(?:imum)? (?:number|limit)|limit).{0,40}recipients|recipients.{0,40}(?:limit|too many|maximum|exceed)|\b[45]\.5\.3\b|recipient (?:count|number).{0,20}exceed|messages? (?:per|a) day|limit.{0,30}(?:per|a|24) ?(?:day|hours?\b.{0,8}day)",
        unless=(
            r"\b(?:hour|minute|second)\b|hourly|rate|mailbox (?:is )?(?:full|over|size)|\b[45]\.2\.2\b|storage|recipient'?s? (?:mailbox|over|inbox)|over quota.{0,10}(?:mailbox|inbox)|throttled|"
            r"(?:mailbox|inbox|user|account)\b.{0,30}(?:over|exceed\w*|out of|full).{0,20}(?:quota|storage|space)|quota exceeded \(mailbox|size|out of storage",
        ),
    ),
    says(_EXCHANGE, Cause.QUOTA_EXCEEDED, r"\b5\.1\.90\b|recipient rate limit|recipientratelimit|\b5\.2\.232\b|\b5\.7\.705\b|tenant.{0,20}exceeded threshold"),
    says(
        _GMAIL,
        Cause.RATE_LIMITED,
        r"too much mail|rate[- ]?limit|throttl|too many (?:messages|e-?mails|mails|login|logins|attempts|failed|auth\w*|requests|recipients|errors|commands|invalid|bad|wrong|incorrect)|too (?:fast|quickly|frequent\w*|often)|receiving (?:mail|messages) (?:too|at a rate)",
        r"(?:hourly|per[- ](?:hour|minute|second)|an? (?:hour|minute|second)|this hour|sending rate|message rate|connection rate|submission ?rate).{0,60}|(?:exceed\w*|over|high|maximum|max).{0,30}\brates?\b|unusual(?:ly high)? rate|slow down|back ?off|try (?:again )?later.{0,20}rate",
        r"\b4\.7\.28\b|\b[45]\.2\.23[0-9]\b|\b4\.4\.5\b|submissionratelimit|\b421\b.{0,40}(?:too many|message|defer)|(?<!recipient address rejected: )temporarily deferred|ts0[0-9]|\b4\.7\.(?:500|650|651)\b|messages? (?:limit|count).{0,30}(?:connection|session)|(?:connection|session).{0,30}message limit|\b450\b.{0,10}too",
        unless=(r"greylist|graylist|greylisting",),
    ),
    says(_POSTFIX, Cause.RATE_LIMITED, r"(?:sending|mail|message|email).{0,30}limit (?:exceeded|reached)", stages=ENVELOPE | {"auth"}, unless=(r"size|mailbox|quota",)),
)

SENDER: Final[tuple[Rule, ...]] = (
    says(
        _EXCHANGE,
        Cause.SENDER_NOT_ALLOWED,
        r"send ?as ?denied|send(?:ing)? (?:mail )?as (?:this|that|the|another|other|a different|user)|permissions? to send as|sendasdenied|send[- ]?as\b|\b5\.7\.60\b|\b5\.2\.252\b|mailfrom.{0,20}not match",
        r"not owned by|sender address rejected.{0,40}(?:not (?:owned|logged|allowed|authori[sz]ed|match|permitted)|does not match|access denied|mismatch)|(?:sender|from|envelope|return-path)\b.{0,60}(?:not|n't|must|differ\w*|mismatch).{0,30}(?:match\w*|same|equal|belong|own|login|authenticat|user ?name|identical)",
        r"(?:not|n't) (?:authori[sz]ed|allowed|permitted|permission) to (?:send|use|relay).{0,40}(?:from|as|address|behalf|identity|domain|sender)|not authori[sz]ed to (?:perform|send).{0,20}(?:ses:)?send|not (?:allowed|authori[sz]ed|permitted).{0,30}(?:from (?:address|header)|sender|mail from)",
        r"relaying disallowed as|sender (?:address )?(?:is )?(?:not (?:allowed|authori[sz]ed|permitted|accepted|valid for)|rejected|denied|disallowed|refused|spoof\w*|forbidden|unauthori[sz]ed|invalid for)|from (?:address|header).{0,40}(?:not (?:allowed|authori[sz]ed|permitted)|rejected|denied|invalid)|unauthori[sz]ed (?:sender|from)",
        r"mail from must equal|must (?:be )?(?:the same|equal|match).{0,40}(?:user|login|auth|account|sender)|(?:user|login|account)\b.{0,40}(?:cannot|can't|may not|not allowed to|is not) send|spoof|on behalf|alias.{0,30}not|发件人|not (?:your|one of your) (?:e-?mail )?address",
        unless=(
            r"verif|not configured|domain (?:not found|does not exist|must exist)|need fully-qualified|undeliverable|mx|dmarc|dkim|\bspf\b|unauthenticated sender|sandbox|blacklist|blocklist|reputation|"
            r"relay(?:ing)? (?:access )?(?:denied|not)|5\.7\.26|hostname|helo|rfc 5322|dns|not a valid|tls|auth\w* required|lookup|blocked using|resolve",
        ),
    ),
    says(
        _SENDGRID,
        Cause.SENDER_NOT_VERIFIED,
        r"verified sender|sender identity|sender identities|(?:address|domain|sender|identity|from|e-?mail|identities).{0,60}not (?:been |yet |properly )?(?:verified|validated|confirmed|authenticated|activated|configured|registered|approved)",
        r"(?:un|not )(?:verified|validated|confirmed|registered).{0,30}(?:sender|domain|address|identity|from)|identities failed the check|verify (?:your |the |a )?(?:sender|domain|e-?mail|from|identity)|please add your own domain|sandbox|authori[sz]ed recipients",
        r"(?:sender|sending|from) (?:domain|address|signature).{0,40}(?:not (?:found|exist|defined|allowed)|verif|valid)|sender signature|domain.{0,30}(?:not verified|unverified|is not (?:allowed|active|registered|enabled) (?:to send|on|for|in your))|not a verified|mailfromdomainnotverified|test purposes only|trial account|pending (?:approval|review)",
        unless=(r"could not be verified|unverified address: (?!sender)|recipient address rejected|certificate|sender verify failed|verification failed|callout|hostname|dmarc|dkim|\bspf\b",),
    ),
)

RELAY: Final[tuple[Rule, ...]] = (
    says(
        _POSTFIX,
        Cause.RELAY_DENIED,
        r"relay(?:ing)?(?: access)? (?:is )?(?:denied|not (?:permitted|allowed|authori[sz]ed|possible)|prohibited|disallowed|refused|rejected|forbidden)|unable to relay|(?:not|n't|cannot|won't|can't|no) (?:permitted |allowed |authori[sz]ed )?(?:to )?(?:be )?relay|relay (?:attempt|access)|relayed|relay not",
        r"(?:rejected|denied|refused|invalid credentials|not (?:allowed|permitted)).{0,30}\brelay|open relay|not (?:a |an )?(?:open relay|local (?:domain|host|user)|gateway)|rcpthosts|not in my list|we do not relay|user not local|mail-?relay|smtp relay|relaydenied|relaynotpermitted|not one of (?:my|our) (?:domains|users)|locally hosted",
        unless=(r"relaying disallowed as",),
    ),
)

MAIL: Final[tuple[Rule, ...]] = (
    says(
        "RFC 6647 §2",
        Cause.GREYLISTED,
        r"gr[ea]y[- ]?list|postgrey|recipient address rejected: temporarily|deferred.{0,20}first|first (?:time|contact|attempt)|try again in [0-9]+ (?:second|minute)|retry (?:in|after) [0-9]+ ?(?:s|min)|come back later|please (?:re)?try.{0,20}(?:in|after) (?:a few|some|[0-9])|unknown (?:sender|ip).{0,20}try later|not yet authori[sz]ed to deliver",
    ),
    says(
        _RFC5321,
        Cause.MESSAGE_TOO_LARGE,
        r"(?:message|mail|e-?mail|attachment|content|body|file|size|data|request entity)s?\b.{0,50}(?:too (?:big|large|long)|exceed\w*.{0,30}(?:size|limit|maximum|fixed)|oversize)|(?:message|mail|attachment|max\w*|header).{0,20}size.{0,30}(?:exceed|limit|over|larger|maximum|reached)|(?:exceed|larger|over|bigger|maximum|max)\w*.{0,50}(?:message |mail |attachment )?size",
        r"\b[45]\.(?:3\.4|2\.3)\b|maxsubmissionexceeded|messagesubmissionexceeded|too much (?:mail )?data|message length|mapiexceptionmaxsubmission|size limit",
        unless=(r"mailbox (?:size|full)|lines?(?: is)? too long|too long \(|queue size|recipients|tls|record|packet",),
    ),
    says(
        "Spamhaus and others: what a broken look-up returns",
        Cause.SERVER_MISCONFIGURED,
        r"open resolver|returnc/pub|excessive number of queries|127\.255\.255|(?:temporary )?lookup failure|(?:rbl|dnsbl|blocklist).{0,40}(?:look-?up|query).{0,20}(?:error|fail|refused)|error:? .{0,20}resolver",
    ),
    says(
        _POSTFIX,
        Cause.SERVER_MISCONFIGURED,
        r"queue file write error|server configuration (?:error|problem)|configuration (?:error|problem)|misconfigur|milter|content[- ]filter.{0,30}(?:unavailable|fail|refused)|\b[45]\.3\.5\b|no certificate (?:loaded|available|configured)|no server certs|can't load|could not load|unable to load|tls not available due to (?:local|temporary)|tls (?:currently )?(?:unavailable|not available).{0,20}local|internal (?:server )?configuration",
        r"address verification.{0,20}in progress.{0,5}misconf|mail system.{0,20}misconfig|loops? back to (?:my|itself)|too many hops|mail loop|routing loop|hop count|\b[45]\.4\.6\b|unable to (?:open|write|create) (?:queue|spool|log|file|database)|clamav|clamd|amavis|spamd|policy (?:service|server).{0,20}(?:error|fail|unavailable)|database (?:error|unavailable)|lookup (?:failure|error) .{0,20}(?:mysql|ldap|table)|no ssl certificate",
        unless=(r"insufficient system|client host rejected",),
    ),
    says(
        _LISTS,
        Cause.IP_BLOCKED,
        r"spamhaus|spamcop|barracuda|sorbs|\b(?:dns|r)bl\b|dnsbl|(?:black|block|deny)[- ]?list|blocked using|blocked.{0,30}\bips?\b|\bips?\b.{0,80}(?:blocked|banned|listed|rejected|denied|not allowed|refused|reputation|blacklist|not authori[sz]ed|bad)|abuseat|zen\.|s3140|s3150|sc-00[0-9]|cbl\b|uceprotect|proofpoint|mimecast|sender ?score|senderbase",
        r"banned|not allowed to connect|refused to talk|(?:client host|your host|your ip|sending ip|mail server ip|source ip|ip address|client).{0,60}(?:blocked|rejected|refused|denied|reputation|listed)|(?:traffic )?not accepted from this ip|no (?:reverse|ptr)|reverse dns|\bptr\b|\brdns\b|\b5\.7\.(?:1|25|511|60[5-9]|606|70[38]|750)\b.{0,60}\bip\b|\b[45]\.7\.25\b|cannot find your (?:reverse )?hostname|dynamic ip|residential|network is on our block|poor reputation|low reputation of the sending ip|reputation of .{0,20}\bip\b",
    ),
    says(
        _RFC3463,
        Cause.MAILBOX_FULL,
        r"(?:mailbox|inbox|user|account|recipient|box|quota|maildir|folder|storage)\b.{0,50}(?:full|over ?-?quota|over (?:the |its |their )?(?:quota|storage|limit)|exceed\w*.{0,30}(?:quota|storage|space|size|limit|allocation)|out of (?:storage|space)|quota (?:exceeded|full))",
        r"over ?quota|mailbox ?full|\b[45]\.2\.2\b|insufficient (?:mailbox )?(?:storage|space)|quota exceeded|not enough (?:storage|space|disk)|disk (?:quota|full)|exceeded storage allocation|boîte.{0,20}pleine|postfach.{0,20}voll|mailbox size limit|no space left",
    ),
    says(
        _RFC5321,
        Cause.PROTOCOL_ERROR,
        r"rfc ?-?(?:2822|5322|822|5321|2821)|bare (?:lf|cr|linefeed)|line (?:is )?too long|lines? longer than|maximum line length|smtputf8|8bitmime|non-ascii|syntax(?:ally)? (?:error|invalid)|syntactically|bad sequence|out of (?:order|sequence)|sequence of commands|command (?:unrecogni[sz]ed|not (?:recogni[sz]ed|implemented|understood|supported)|unknown|out)|unrecogni[sz]ed command|unknown command|invalid command|unimplemented",
        r"need fully-qualified|fully[- ]qualified|\b(?:helo|ehlo)\b.{0,80}(?:reject|invalid|not|require|first|bad|argument|error|fail|name|refus|deny)|(?:invalid|bad|reject\w*|improper|send|polite).{0,30}\b(?:helo|ehlo|hello)\b|(?:multiple|missing|duplicate|invalid|malformed|no|bad) (?:from|to|date|message-id|subject|header)s?\b.{0,10}(?:header|field|address)?|missing header|headers? (?:is |are )?(?:missing|malformed|invalid|not compliant)|not compliant|nested mail|need (?:mail|rcpt|helo|ehlo)|mail from.{0,20}first|no valid recipients|smtp protocol|protocol (?:error|violation)|pipelining|improper (?:use|command)|synchroni[sz]ation|unexpected (?:response|reply|code)|expected (?:response )?code|invalid character|control character|eprotocol|textproto|short response|malformed (?:response|reply|address|mime|header)|bad (?:address|response)|invalid address|(?:address|mailbox).{0,20}(?:syntax|malformed|not valid rfc)|null character",
        unless=(
            r"relay|recipient.{0,30}(?:rejected|unknown|not)|user unknown|\b5\.1\.1\b|mailbox unavailable|no such user|spam|does not exist|unknown user|sender verify|blocked|"
            r"bad recipient|bad destination|sendfailed|<[^>]{1,80}>:? invalid address|\b5\.1\.[36]\b|expected (?:response )?code \d* ?(?:but|,|\().{0,60}\d{3}.{0,40}(?:auth|quota|limit|spam|denied|relay)|no response|returned an error",
        ),
    ),
    says(
        _RFC3463,
        Cause.CONTENT_REJECTED,
        r"\bspam\b|\bvirus|malware|phish|(?:content|attachment|message|mail|url|link|header|subject)s?\b.{0,60}(?:block|reject|refus|denied|not (?:accepted|allowed|permitted)|prohibit|filter|policy|unsolicited|suspicious|banned|illegal|dangerous|forbidden|potential|virus)|(?:block|reject|refus|filter|security)\w*.{0,40}(?:content|attachment|message|policy|policies)|unsolicited|bulk mail|suspicious|blockedmessage|banned (?:content|file)|\b5\.7\.(?:5|0|520|28)\b.{0,40}(?:content|message|secur)|\b5\.6\.[0-9]\b|policy (?:reasons?|violation|restriction)|local policy|administrative prohibition|high probability|looks like|(?:score|hits?)\b.{0,10}[0-9]|reputation|heuristic|url ?bl|surbl|uribl|executable|poor reputation|conversion",
        stages=ENVELOPE | {""},
        unless=(
            r"recipient.{0,30}(?:unknown|not (?:found|exist)|rejected|does not)|relay|user unknown|no such user|mailbox unavailable|"
            r"try (?:again )?later|temporar|sender verify|\b5\.1\.[0-9]\b|sender address rejected",
        ),
    ),
    says(
        _RFC3463,
        Cause.RECIPIENT_REJECTED,
        r"(?:recipient|user|mailbox|address|account|rcpt|alias|addressee|destination)s?\b.{0,80}(?:not (?:found|exist|known|listed|valid|local|available|here|accepted|recogni[sz]ed)|n't (?:exist|found|have)|unknown|does ?n.t|doesn'?t|unavailable|invalid|reject|refused|disabled|inactive|no longer|unrouteable|undeliverable|null mx|bad|denied|ambiguous|restricted|malformed|discontinued|closed|suspended)",
        r"missing final|<[^>]{1,80}>:? invalid address|(?:no such|unknown|invalid|nonexistent|non-existent|bad|inactive|disabled|unrouteable|unroutable|unverified|illegal|all|no|unavailable|rejected|undeliverable).{0,20}\b(?:user|recipient|mailbox|address(?:es)?|account|person|local part|domain)\b|\b[45]\.1\.(?:0|1|2|3|6|10)\b|\b[45]\.2\.1\b|(?:could not|cannot|can't) (?:be )?deliver|unrouteable|nullmx|null mx|smtprecipientsrefused|recipientsrefused|resolver\.adr|no mailbox here|email address could not be found|boîte aux lettres|destinataire|empfänger|destinatario|gmail.{0,20}nosuchuser|nosuchuser|user not found|does not like recipient|undisclosed|sendfailedexception: invalid addresses|\bhost (?:or domain name )?not found",
        stages=("rcpt", "data", "mail_from", ""),
        unless=(r"sender (?:address|domain|verify)|relay|temporar|sorry.{0,10}later|tls|connect",),
    ),
    says(
        _RFC3463,
        Cause.SENDER_NOT_ALLOWED,
        r"(?:sender|from|mail from|return[- ]path|envelope)\b.{0,80}(?:reject|denied|not|invalid|refused|unknown|n't|fail|undeliverable|mismatch|blocked)|\b[45]\.1\.[78]\b",
        stages=ENVELOPE | {""},
        unless=(r"recipient|try (?:again )?later|temporar",),
    ),
    says(
        "rspamd, Postgrey, milter-greylist: the code they defer with",
        Cause.GREYLISTED,
        r"\b4[0-9]{2} 4\.7\.1\b.{0,60}(?:try again|later)",
        stages=ENVELOPE,
    ),
    says(
        _RFC5321,
        Cause.SERVER_TEMPORARY,
        r"temporar|try (?:again )?later|try again|retry later|service (?:is )?(?:not available|unavailable|currently|busy|shutting|closing)|not available|server (?:is )?(?:busy|unavailable|too busy|overloaded|error|down|shutting)|local (?:error|problem)|(?:internal|system|unexpected) (?:server )?(?:error|problem|failure)|closing (?:transmission|connection)|maintenance|resources (?:temporarily )?(?:unavailable|exhausted)|deferred|insufficient system|out of memory|overload|\b4\.3\.[0-9]\b|\b4\.4\.[0-9]\b|transient",
    ),
)
