"""One job with its promise to the ledger, the stages that trials share, and the ledger itself."""
