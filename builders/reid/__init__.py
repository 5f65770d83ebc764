"""Person re-identification: folders of crops -> pairs worth training on."""
