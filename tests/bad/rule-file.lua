-- run: --rules @
return { 3 }
