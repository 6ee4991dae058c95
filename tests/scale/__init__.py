"""A million callbacks over a hundred thousand destinations: what each verb and command costs."""
