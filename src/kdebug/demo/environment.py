"""What the practice workload finds in its environment. The secrets are made up and say so."""

ENVIRONMENT = {
    "APP_ENV": "production",
    "API_TOKEN": "practice-not-a-secret-51c0ffee",
    "DATABASE_URL": "postgres://app:practice-not-a-secret@db.internal:5432/orders",
    "DB_PASSWORD": "practice-not-a-secret-7f3a",
    "HOSTNAME": "demo",
    "LOG_LEVEL": "info",
    "PORT": "8080",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
}
