/* Writing CSV files (RFC 4180). */
#ifndef WEFT_INFER_CSV_H
#define WEFT_INFER_CSV_H
#include <stdio.h>

/* A field, quoted where it must be; NULL is empty. */
void csv_put_text(FILE *out, const char *s);
/* "," and the number with nine digits; nothing after the comma for one that is not finite. */
void csv_put_number(FILE *out, double x);
#endif
